"""What an evaluation asks of an encoder beyond its heads: the outputs that it reads, and a job for every protocol.

A protocol is left out where its encoder has nothing for it: zero-shot where no task has prompts, retrieval in directions whose
modalities were not read, everything about images where the encoder saw none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assets.dataset import Dataset
from assets.encoders import data_files
from assets.outputs import Key, Output
from assets.training import Inputs, asks_questions, configured, job_base
from models.spec import MethodSpec
from models.types import Modality

VOCABULARIES: Mapping[Modality, str] = {Modality.ECG: "scp", Modality.IMAGE: "chexpert"}
"""Prompts describe the classes of one vocabulary; another's code may read the same and mean something else."""

PROMPTS = Key(("prompts",))
REPORTS = 500
EXAMPLES = 100
"""How many reconstructions are kept, to be drawn and to be read blindly."""

EXPLANATIONS = 4
QUESTIONS: Mapping[str, int] = {"train": 10_000, "validation": 2_000, "test": 4_000}
"""How many questions are asked at most, by part; each needs a pass of the encoder of its own."""
Homes = Mapping[str, tuple[type[Dataset], Modality]]


@dataclass(frozen=True)
class Judged:
    """An encoder that is judged.

    Attributes:
        homes: its tasks, with the dataset whose labels they read and what these describe.
        inputs: what the encoder was trained on.
        classifier_weights: file of local weights of the classifier that reconstructions are judged with; None for none.
    """

    spec: MethodSpec
    dataset: type[Dataset]
    encoder: Output
    homes: Homes
    inputs: Inputs
    classifier_weights: Path | None = None

    def reads(self) -> list[Key]:
        """What the jobs read beside encoder and heads."""
        asks, inputs = set(self.spec.protocols), self.inputs
        found: list[Key | None] = []
        if "zero_shot" in asks:
            modalities = {modality for _, modality in self.homes.values()}
            found += [PROMPTS, inputs.signals, inputs.images if Modality.IMAGE in modalities else None]
            found += [self._labels(task) for task in self.homes]
        if asks & {"retrieval", "generation", "explanation"}:
            found += inputs.keys
        if "identification" in asks:
            found.append(inputs.signals)
        if asks_questions(self.spec, self.dataset) and inputs.signals is not None:
            found += [inputs.signals, self._questions]
        if "explanation" in asks:
            found += [self._labels(task) for task in self._image_tasks()]
        if "reconstruction" in asks:
            found += [inputs.signals, *(self._labels(task) for task in self._signal_tasks())]
        return list(dict.fromkeys(key for key in found if key is not None))

    def jobs(self, upstream: Mapping[str, Output], run_folder: Path) -> dict[str, dict[str, Any]]:
        """The jobs by name, each with a run folder of its own below `run_folder`."""
        made: dict[str, dict[str, Any]] = {}
        for modality in (Modality.ECG, Modality.IMAGE) if "zero_shot" in self.spec.protocols else ():
            if job := self._zero_shot(upstream, modality):
                made[f"zero_shot_{modality}"] = job
        asks, reads = set(self.spec.protocols), {str(m) for m in self.inputs.modalities}
        directions = [d for d in self.spec.directions if set(d.replace("->", "+").split("+")) <= reads]
        if "retrieval" in asks and directions:
            made["retrieval"] = self._base("retrieval") | data_files(self.inputs, dict(upstream)) | {"directions": directions}
        if "generation" in asks and {Modality.ECG, Modality.TEXT} <= reads:
            made["generation"] = self._base("generation") | data_files(self.inputs, dict(upstream)) | {"limit": REPORTS}
        if "identification" in asks and self.inputs.signals is not None:
            made["identification"] = self._base("identification") | {"store": self._folder(upstream, self.inputs.signals)}
        if asks_questions(self.spec, self.dataset) and self.inputs.signals is not None:
            made["question_answering"] = self._base("question_answering") | {
                "store": self._folder(upstream, self.inputs.signals),
                "questions": str(upstream[str(self._questions)].path("questions.parquet")),
                "limits": dict(QUESTIONS),
            }
        if "explanation" in asks and (head := self._fused_head(upstream)):
            task, path = head
            labels = str(upstream[str(self._labels(task))].path("labels.parquet"))
            entries = {"head": str(path), "task": task, "labels": labels, "limit": EXPLANATIONS}
            made["explain"] = self._base("explain") | data_files(self.inputs, dict(upstream)) | entries
        if "reconstruction" in asks and self.inputs.signals is not None:
            made["reconstruction"] = self._reconstruction(upstream, self._folder(upstream, self.inputs.signals))
        return {name: job | {"output": str(run_folder / name)} for name, job in made.items()}

    def _base(self, kind: str, dataset: type[Dataset] | None = None) -> dict[str, Any]:
        facts = self.encoder.facts
        base = job_base(kind, self.spec, dataset or self.dataset, facts["preset"], facts["seed"], Path())
        bundles = {"bundle": str(self.encoder.path("bundle")), "random_init": str(self.encoder.path("random_init"))}
        return base | bundles | {"dataset": self.dataset.name}

    def _zero_shot(self, upstream: Mapping[str, Output], modality: Modality) -> dict[str, Any] | None:
        store = self.inputs.images if modality is Modality.IMAGE else self.inputs.signals
        tasks = [t for t, (_, about) in self.homes.items() if about is modality and self._vocabulary(upstream, t) == VOCABULARIES[modality]]
        if not tasks or store is None:
            return None
        prompts = upstream[str(PROMPTS)]
        return self._base("zero_shot", self.homes[tasks[0]][0]) | {
            "store": self._folder(upstream, store),
            "modality": str(modality),
            "labels": {t: str(upstream[str(self._labels(t))].path("labels.parquet")) for t in tasks},
            "prompts": {name: str(prompts.path(f"{name}.json")) for name in prompts.facts["sets"]},
        }

    def _reconstruction(self, upstream: Mapping[str, Output], store: str) -> dict[str, Any]:
        """Its classifier is fine-tuned on the first task about recordings that is about classes."""
        config = configured(self.spec, self.encoder.facts["config"])
        job = self._base("reconstruction") | {
            "store": store,
            "classifier": config.classifier,
            "classifier_weights": None if self.classifier_weights is None else str(self.classifier_weights),
            "epochs": config.finetune_epochs,
            "batch_size": config.finetune_batch_size,
            "lr": config.finetune_lr,
            "fid_input": config.fid_input,
            "limit": EXAMPLES,
        }
        for task in self._signal_tasks():
            labels = upstream[str(self._labels(task))]
            if labels.facts["kind"] != "regression":
                return job | {"labels": str(labels.path("labels.parquet")), "task": task, "task_kind": labels.facts["kind"]}
        return job

    def _fused_head(self, upstream: Mapping[str, Output]) -> tuple[str, Path] | None:
        """The task and file of the fused head that saw the most labels."""
        for task in self._image_tasks():
            heads = upstream[str(Key(("head", self.spec.name, task), self.dataset.name))].folder / "heads"
            found = sorted(heads.glob(f"{task}-fused-pretrained-*.safetensors"), key=lambda p: float(p.stem.rsplit("-", 1)[1]))
            if found:
                return task, found[-1]
        return None

    def _image_tasks(self) -> list[str]:
        return [t for t, (_, modality) in self.homes.items() if modality is Modality.IMAGE and self.inputs.images is not None]

    def _signal_tasks(self) -> list[str]:
        return [t for t, (_, modality) in self.homes.items() if modality is Modality.ECG]

    @property
    def _questions(self) -> Key:
        return Key(("questions", self.dataset.name))

    def _labels(self, task: str) -> Key:
        return Key(("labels", self.homes[task][0].name), task)

    def _vocabulary(self, upstream: Mapping[str, Output], task: str) -> str:
        return str(upstream[str(self._labels(task))].facts["vocabulary"])

    @staticmethod
    def _folder(upstream: Mapping[str, Output], key: Key) -> str:
        return str(upstream[str(key)].folder)

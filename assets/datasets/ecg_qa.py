"""ECG-QA: questions about the recordings of PTB-XL, with answers (Oh et al. 2023). PTB-XL asks them where both are there.

Layout of the original download, a clone of its repository or its folder `ecgqa` or `ptbxl`: see `assets.ecg_qa`. A record is a recording
of PTB-XL that a question is about; it has patient and fold as in PTB-XL, which need not be there for that.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from assets.access import Access
from assets.dataset import Dataset, Download, Source
from assets.ecg_qa import PARTS, question_files, read_questions
from assets.identities import ptb_xl
from models.answer_tables import SEPARATOR

if TYPE_CHECKING:
    import pandas as pd


class EcgQa(Dataset):
    """ECG-QA as published."""

    name: ClassVar[str] = "ecg_qa"
    source: ClassVar[Source] = Source(
        title="ECG-QA",
        version="1.0.2",
        homepage="https://github.com/Jwoo5/ecg-qa",
        licence="as stated in its repository",
        terms="Free to clone from GitHub; the recordings are PTB-XL's.",
        citation="Oh et al., ECG-QA: A Comprehensive Question Answering Dataset Combined With Electrocardiogram, NeurIPS 2023, arXiv:2306.15681",
        download=Download(
            credentials="manual",
            directions="git clone https://github.com/Jwoo5/ecg-qa into the dataset's folder; its folder ecgqa/ptbxl is read.",
        ),
    )
    access: ClassVar[Access] = Access.OPEN

    def files(self) -> list[Path]:
        """The files of questions that are read, relative to the folder, sorted.

        Raises:
            DatasetError: there is none.
        """
        return sorted(path.relative_to(self.folder) for path in question_files(self.folder))

    def records(self) -> pd.DataFrame:
        """Every recording that a question is about; columns as in `Dataset.records`. A number that PTB-XL never gave to one is none,
        and the questions about it are left out where they are asked.

        Raises:
            DatasetError: a file cannot be read.
        """
        import pandas as pd

        named = read_questions(self.folder)["record_id"].str.split(SEPARATOR).explode()
        who = {i: ptb_xl(int(i)) for i in sorted({i for i in named if i}, key=int)}
        ids = [i for i, identity in who.items() if identity is not None]
        known = [identity for identity in who.values() if identity is not None]
        return pd.DataFrame(
            {
                "record_id": ids,
                "patient_id": [identity.patient_id for identity in known],
                "fold": [identity.fold for identity in known],
                "age": float("nan"),
                "sex": "unknown",
                "site": "",
                "device": "",
                "acquired_at": "",
            }
        )

    @classmethod
    def make_fixture(cls, folder: Path, *, seed: int = 0) -> None:
        """Write invented questions about the first 120 recordings of PTB-XL, some of two recordings at a time, in the original layout."""
        import numpy as np

        rng = np.random.default_rng(seed)
        for form, words in (("template", "Does this ECG show {}?"), ("paraphrased", "Can {} be seen here?")):
            for part, start in zip(PARTS, (0, 80, 100), strict=True):
                samples = [s for i in range(start, {0: 80, 80: 100, 100: 120}[start]) for s in _samples(i + 1, words, rng)]
                numbered = [{"template_id": s["template_id"], "question_id": n // 2, "sample_id": n} | s for n, s in enumerate(samples)]
                path = folder / "ecgqa" / "ptbxl" / form / part / "00000.json"
                path.parent.mkdir(parents=True)
                path.write_text(json.dumps(numbered, indent=4))


def _samples(ecg_id: int, words: str, rng: Any) -> list[dict[str, Any]]:
    """A question of each kind about a recording, and a comparison with the one before."""
    finding, other = ("sinus rhythm", "atrial fibrillation")[:: 1 if rng.random() < 0.7 else -1]
    about = {"attribute_type": "scp_code", "ecg_id": [ecg_id]}
    return [
        about | {"template_id": 1, "question_type": "single-verify", "question": words.format("sinus rhythm"), "answer": ["yes" if finding == "sinus rhythm" else "no"], "attribute": ["sinus rhythm"]},
        about | {"template_id": 2, "question_type": "single-choose", "question": words.format("sinus rhythm or atrial fibrillation"), "answer": [finding], "attribute": ["sinus rhythm", other]},
        about | {"template_id": 7, "question_type": "single-query", "question": "What does this ECG show?", "answer": [finding, "low qrs voltages"], "attribute": [finding]},
        about | {"template_id": 50, "question_type": "comparison_consecutive-verify", "question": "Is it the same?", "answer": ["no"], "attribute": None, "ecg_id": [ecg_id, max(1, ecg_id - 1)]},
    ]  # fmt: skip

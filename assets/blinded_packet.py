"""Makes the packet of a blinded reading from what an evaluation holds: reconstructed test records, and real ones of other patients."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from assets.blinded import Candidate, ReadingError, choose, export_packet
from assets.dataset import get_dataset
from assets.outputs import Key, Output, Workspace
from assets.verdicts import require_checked
from models.reconstruction_tables import read_reconstructions


def make_packet(workspace: Workspace, method: str, dataset: str, folder: Path, key: Path, n: int, seed: int) -> tuple[str, Output]:
    """Write a packet of `n` sheets and its key; the id of the packet, and the evaluation that it is from.

    Raises:
        ReadingError: the evaluation holds no reconstructions, or too few; or a place is taken.
        OutputError, UnsafeUpstreamError: the evaluation or its store has not been made, or failed a check.
    """
    import numpy as np
    import pandas as pd

    from assets.evaluation_figures import Pages
    from assets.plots_page import EcgPage

    evaluation = require_checked(workspace, Key(("evaluation", method), dataset))
    held = evaluation.folder / "reconstructed"
    if not held.exists():
        raise ReadingError(
            f"{evaluation.key} holds no reconstructed ECGs; choose a method with the protocol reconstruction, such as wearecg"
        )
    encoder = require_checked(workspace, Key(("encoder", method), dataset))
    config = encoder.facts["config"]
    store = require_checked(workspace, Key(("cleaned", dataset), config["recipe"]))
    if evaluation.manifest["upstream"].get(str(store.key)) != store.data_version:
        raise ReadingError(f"{evaluation.key} was made from another version of {store.key}; materialise the evaluation again")
    listed = pd.read_parquet(held / "records.parquet")
    generated = [Candidate(str(r), str(p), "generated") for r, p in zip(listed["record_id"], listed["patient_id"], strict=True)]
    reconstructed = {c.record_id: place for place, c in enumerate(generated)}
    path = next(iter(sorted((evaluation.folder / "reconstructions").glob("*.parquet"))))
    table = read_reconstructions(path).folds(get_dataset(dataset).split.test)
    real = [Candidate(r, p, "real") for r, p in zip(table.record_id, table.patient_id, strict=True)]
    chosen = choose(real, generated, n, np.random.default_rng(seed))
    signal_NLT = np.load(held / "signals.npy", mmap_mode="r", allow_pickle=False)
    pages = Pages(store.folder)

    def page(candidate: Candidate) -> EcgPage:
        recorded = pages.page(candidate.record_id)
        if candidate.kind == "real":
            return recorded
        return EcgPage.of(signal_NLT[reconstructed[candidate.record_id]], config["channels"], recorded.fs_hz)

    about: dict[str, Any] = {"method": method, "dataset": dataset, "preset": encoder.facts["preset"], "seed": seed, "n": n}
    about |= {"evaluation": evaluation.data_version, "encoder": encoder.data_version}
    return export_packet(folder, key, [(c, page(c)) for c in chosen], about), evaluation

"""Checks that nothing identifies a person: headers and tables of raw data, text of reports."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from assets import settings
from assets.privacy import SEVERE, identifiers_in_header, identifiers_in_reports, is_header
from data_checks.context import CheckContext
from data_checks.findings import CheckError, name_rows
from data_checks.tables import read_table

HEADERS_READ = 20_000
"""Headers that are looked at, evenly spread, where a dataset has more."""


def check_headers(c: CheckContext) -> str:
    """No header or table of the original files names, dates the birth of, or says how to reach a person."""
    import numpy as np

    folder = settings.load().dataset_folder(c.dataset.name)
    names = [name for name in read_table(c.output.path("files.parquet"))["path"].to_pylist() if is_header(Path(name))]
    looked_at = [names[i] for i in np.unique(np.linspace(0, len(names) - 1, min(len(names), HEADERS_READ)).astype(int))] if names else []
    found: dict[str, list[str]] = {}
    for name in looked_at:
        try:
            kinds = identifiers_in_header(folder / name)
        except (OSError, zlib.error) as error:
            raise CheckError(
                f"{folder / name} cannot be read ({type(error).__name__}); check the disk, then materialise {c.output.key}"
            ) from error
        for kind in kinds:
            found.setdefault(kind, []).append(name)
    _tell(c, found, "headers")
    return f"{len(looked_at)} of {len(names)} headers and tables carry no identifier of a person"


def check_report_privacy(c: CheckContext) -> str:
    """No report names, dates the birth of, or says how to reach a person."""
    import pandas as pd

    names = ["reports.parquet", *(["image_reports.parquet"] if c.dataset.has_image_reports else [])]
    tables = [read_table(c.output.path(name)).select(["record_id", "text", "original"]).to_pandas() for name in names]
    table = pd.concat(tables, ignore_index=True)
    texts = table["original"].fillna("") + "\n" + table["text"].fillna("")
    ids = table["record_id"].tolist()
    _tell(c, {kind: [ids[i] for i in places] for kind, places in identifiers_in_reports(texts).items()}, "reports")
    return f"{len(table)} reports carry no identifier of a person"


def _tell(c: CheckContext, found: Mapping[str, list[str]], what: str) -> None:
    """Severe kinds that the settings do not accept fail; the rest is noted. Values are never told."""
    accepted = settings.load().accepted_identifiers.get(c.dataset.name, ())
    c.findings.facts["identifiers"] = dict(sorted(Counter({kind: len(places) for kind, places in found.items()}).items()))
    for kind, places in sorted(found.items()):
        said = f"{len(places)} {what} hold a {kind.replace('_', ' ')}"
        if kind in SEVERE and kind not in accepted:
            remedy = f"remove it, or accept it under `accepted_identifiers.{c.dataset.name}` in settings.yaml"
            c.findings.fail(f"{said} ({name_rows(places)}); {remedy}", places, named=True)
        else:
            c.findings.note(f"{said} ({name_rows(places)}){', which the settings accept' if kind in accepted else ''}")

"""Which classes of one dataset's task stand for which of another's, in what order, and what others printed: facts alone.

The three tables are those of MERL (ICML 2024, tables 11 to 13), which MELP (ICML 2025, table 17) repeats: a class of the task on
the left covers the classes on the right. Read forward, the right-hand classes are judged and the left-hand task is the source;
read backward, the left-hand classes are judged. Classes that no class of the source covers are judged by nobody. One printed
copy lets CD cover STDD as well; two do not, and neither do we.

MERL's `chapman` (or CSN) is dataset `sph` here. Its label files are filled by part of an acronym, so directions that touch it stand
twice: with the published labels and with exact ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from models.prompts import Prompt, prompt_for

HOMES: Mapping[str, str] = {"super": "ptb_xl", "icbeb": "cpsc2018", "csn_exact": "sph", "csn_published": "sph"}
"""Task to the dataset that has it."""

_TABLES: Mapping[tuple[str, str], str] = {
    ("super", "icbeb"): "NORM: NORM; CD: 1AVB CRBBB CLBBB; STTC: STE STD",
    ("super", "csn"): "HYP: RVH LVH; NORM: SR; CD: 2AVB 2AVB1 1AVB AVB LBBB RBBB; MI: MI; STTC: STTC STE TWO STTU QTIE TWC",
    ("icbeb", "csn"): ("AFIB: AFIB; VPC: VPB; NORM: SR; 1AVB: 1AVB; CRBBB: RBBB; STE: STE; PAC: APB; CLBBB: LBBB; STD: STE STTC STTU STDD"),
}

COLUMNS = ("super_to_icbeb", "super_to_csn", "icbeb_to_super", "icbeb_to_csn", "csn_to_super", "csn_to_icbeb")
"""The six directions in the order in which they are printed."""

LABEL_VARIANTS = ("exact", "published")

PUBLISHED_SOURCE = "MELP paper (ICML 2025), Table 4"

_PUBLISHED = """
SimCLR      | probe     | 69.62 73.05 56.65 66.36 59.74 62.11
BYOL        | probe     | 70.27 74.01 57.32 67.56 60.39 63.24
BarlowTwins | probe     | 68.98 72.85 55.97 65.89 58.76 61.35
MoCo-v3     | probe     | 69.41 73.29 56.54 66.12 59.82 62.07
SimSiam     | probe     | 70.06 73.92 57.21 67.48 60.23 63.09
TS-TCC      | probe     | 71.32 75.16 58.47 68.34 61.55 64.48
CLOCS       | probe     | 68.79 72.64 55.86 65.73 58.69 61.27
ASTCL       | probe     | 69.23 73.18 56.61 66.27 59.74 62.12
CRT         | probe     | 70.15 74.08 57.39 67.62 60.48 63.33
ST-MEM      | probe     | 76.12 84.5  62.27 75.19 73.05 64.66
MERL        | zero-shot | 88.21 78.01 76.77 76.56 74.15 82.86
MELP        | zero-shot | 87.75 74.11 77.89 80.32 74.67 82.72
"""

_DESCRIBED_AS: Mapping[str, Mapping[str, str]] = {
    "icbeb": {"VPC": "PVC", "STE": "STE_", "STD": "STD_"},
    "csn": {
        **{"VPB": "PVC", "APB": "PAC", "LBBB": "CLBBB", "RBBB": "CRBBB", "AVB": "_AVB"},
        **{"STDD": "STD_", "STTU": "STE_", "TWO": "INVT", "TWC": "NT_", "QTIE": "LNGQT"},
    },
}
"""The SCP-ECG statement whose description fits a class that has another code in its own dataset."""

HOUSE_SET, NAME_SET = "einthoven", "plain"


@dataclass(frozen=True)
class Direction:
    """A task that is the source, a task that is judged, and what connects their classes.

    Attributes:
        name: "super_to_icbeb", "csn_exact_to_super", ...
        column: the column of `COLUMNS` it belongs to.
        covers: the judged classes, each with the source's classes that stand for it.
    """

    name: str
    column: str
    source_task: str
    target_task: str
    covers: Mapping[str, tuple[str, ...]]

    @property
    def source(self) -> str:
        """Dataset of the source."""
        return HOMES[self.source_task]

    @property
    def target(self) -> str:
        """Dataset that is judged."""
        return HOMES[self.target_task]


@dataclass(frozen=True)
class PublishedRow:
    """What a model reached in the six directions, as fractions; "probe" or "zero-shot"."""

    model: str
    protocol: str
    values: tuple[float, ...]


def _parse(table: str) -> dict[str, tuple[str, ...]]:
    parts = (entry.split(":") for entry in table.split(";"))
    return {left.strip(): tuple(right.split()) for left, right in parts}


def _turned(table: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Right-hand classes with the left-hand ones that cover them."""
    rights = dict.fromkeys(r for covered in table.values() for r in covered)
    return {r: tuple(left for left, covered in table.items() if r in covered) for r in rights}


def _variants(task: str) -> tuple[str, ...]:
    return tuple(f"csn_{v}" for v in LABEL_VARIANTS) if task == "csn" else (task,)


def _directions() -> dict[str, Direction]:
    found = {}
    for column in COLUMNS:
        source, target = column.split("_to_")
        forward = (source, target) in _TABLES
        table = _parse(_TABLES[(source, target) if forward else (target, source)])
        covers = _turned(table) if forward else table
        for s in _variants(source):
            for t in _variants(target):
                found[f"{s}_to_{t}"] = Direction(f"{s}_to_{t}", column, s, t, covers)
    return found


def _published() -> tuple[PublishedRow, ...]:
    rows = []
    for line in _PUBLISHED.strip().splitlines():
        model, protocol, values = (part.strip() for part in line.split("|"))
        rows.append(PublishedRow(model, protocol, tuple(round(float(v) / 100, 6) for v in values.split())))
    return tuple(rows)


DIRECTIONS: Mapping[str, Direction] = _directions()
"""All directions by name, in the order of `COLUMNS`."""

PUBLISHED: tuple[PublishedRow, ...] = _published()


def prompts_of(name: str, prompts: Mapping[str, Prompt], task: str, classes: Mapping[str, str]) -> dict[str, Prompt]:
    """The prompts of a set for classes of a task, by class; classes that the set has nothing for are left out.

    The set of class names has every class under the name that its dataset gives it. Our own describes SCP-ECG statements: a class
    takes the description of the statement that means the same, or its name where none does. Sets that users supply are asked for
    the class's own code, as their authors do.

    Args:
        name: of the set.
        prompts: the set, key to prompt.
        task: of the target.
        classes: code to name.
    """
    if name == NAME_SET:
        return {**classes}
    found: dict[str, Prompt] = {}
    for code, title in classes.items():
        key = _DESCRIBED_AS.get(task.split("_")[0], {}).get(code, code) if name == HOUSE_SET else code
        prompt = prompt_for(prompts, task, key) or (title if name == HOUSE_SET else None)
        if prompt is not None:
            found[code] = prompt
    return found

"""Results that MERL's tables and their successors print, as fractions. A compact table, parsed on import.

Linear probes at 1, 10 and 100 % of the labels, then zero-shot, then the same checkpoints under another benchmark's linear
protocol, which must not be mixed with the first; macro AUROC in percent. The letter behind a row stands for its source.
"""

from __future__ import annotations

from models.spec import Published

_TASKS = ("ptb_xl/super", "ptb_xl/sub", "ptb_xl/form", "ptb_xl/rhythm", "cpsc2018/icbeb", "sph/csn_published")

_SOURCES = {
    "M": "MELP paper (ICML 2025), Table 2; splits of MERL",
    "Z": "MELP paper (ICML 2025), Table 3; splits of MERL",
    "S": "secondary source, not checked against the publication",
    "A": "AI4HealthUOL ecg-fm-benchmarking (ICLR 2026), sheet Linear; correct labels, 2.5 s crops",
}

_LABEL_FAULTS = {
    "ptb_xl/sub": "; published labels: its files order three of 23 classes differently in train and test and are read by position",
    "sph/csn_published": "; published labels: seven of 38 classes were filled by substring match",
}
"""Faults of the label files behind the sources M, Z and S, as MERL's repository has them. Ours are exact: by class name."""

_PROBES = """
SimCLR        | 63.41 69.77 73.53 | 60.84 68.27 73.39 | 54.98 56.97 62.52 | 51.41 69.44 77.73 | 59.78 68.52 76.54 | 59.02 67.26 73.20 | M
BYOL          | 71.70 73.83 76.45 | 57.16 67.44 71.64 | 48.73 61.63 70.82 | 41.99 74.40 77.17 | 60.88 74.42 78.75 | 54.20 71.92 74.69 | M
BarlowTwins   | 72.87 75.96 78.41 | 62.57 70.84 74.34 | 52.12 60.39 66.14 | 50.12 73.54 77.62 | 55.12 72.75 78.39 | 60.72 71.64 77.43 | M
MoCo-v3       | 73.19 76.65 78.26 | 55.88 69.21 76.69 | 50.32 63.71 71.31 | 51.38 71.66 74.33 | 62.13 76.74 75.29 | 54.61 74.26 77.68 | M
SimSiam       | 73.15 72.70 75.63 | 62.52 69.31 76.38 | 55.16 62.91 71.31 | 49.30 69.47 75.92 | 58.35 72.89 75.31 | 58.25 68.61 77.41 | M
TS-TCC        | 70.73 75.88 78.91 | 53.54 66.98 77.87 | 48.04 61.79 71.18 | 43.34 69.48 78.23 | 57.07 73.62 78.72 | 55.26 68.48 76.79 | M
CLOCS         | 68.94 73.36 76.31 | 57.94 72.55 76.24 | 51.97 57.79 72.65 | 47.19 71.88 76.31 | 59.59 77.78 77.49 | 54.38 71.93 76.13 | M
ASTCL         | 72.51 77.31 81.02 | 61.86 68.77 76.51 | 44.14 60.93 66.99 | 52.38 71.98 76.05 | 57.90 77.01 79.51 | 56.40 70.87 75.79 | M
CRT           | 69.68 78.24 77.24 | 61.98 70.82 78.67 | 46.41 59.49 68.73 | 47.44 73.52 74.41 | 58.01 76.43 82.03 | 56.21 73.70 78.80 | M
ST-MEM        | 61.12 66.87 71.36 | 54.12 57.86 63.59 | 55.71 59.99 66.07 | 51.12 65.44 74.85 | 56.69 63.32 70.39 | 59.77 66.87 71.36 | M
HeartLang     | 78.94 85.59 87.52 | 64.68 79.34 88.91 | 58.70 63.99 80.23 | 62.08 76.22 90.34 | 60.44 66.26 77.87 | 57.94 68.93 82.49 | M
W2V2+CMSC+RLM | 81.15 84.88 85.53 | 69.10 80.71 85.01 | 52.72 67.81 80.72 | 76.24 86.34 92.05 | 75.70 88.16 92.61 | 65.65 78.82 87.87 | M
ECG-FM        | 78.67 84.80 86.47 | 73.24 81.91 86.07 | 60.95 74.99 85.54 | 81.45 91.59 92.70 | 82.18 89.52 93.26 | 71.51 83.17 88.89 | M
MERL ResNet18 | 82.39 86.27 88.67 | 64.90 80.56 84.72 | 58.26 72.43 79.65 | 53.33 82.88 88.34 | 70.33 85.32 90.57 | 66.60 82.74 87.95 | M
MELP          | 85.82 87.61 87.87 | 79.22 84.40 87.46 | 63.41 76.71 83.30 | 88.83 94.65 96.91 | 88.54 91.75 94.32 | 78.25 84.83 90.17 | M
"""

_ZERO_SHOT = """
MERL ResNet18 + CKEPE | 74.2 75.7 65.9 78.5 82.8 74.4 | Z
MELP                  | 76.2 81.2 69.1 85.4 84.2 77.6 | Z
D-BETA                | 76.2 75.9 66.1 88.6 80.1 76.3 | S
TAMER                 | 76.5 -    -    -    88.3 78.7 | S
"""

_OTHER_PROTOCOL = """
MERL ResNet18 | 88.7 89.5 86.4 87.7 91.4 91.6 | A
ECG-JEPA      | 91.1 91.6 90.8 96.9 97.5 96.2 | A
ECGFounder    | 92.4 94.5 87.4 96.1 96.4 96.8 | A
S4 supervised | 93.2 93.8 91.9 95.6 96.2 96.3 | A
"""


def _rows() -> tuple[Published, ...]:
    found = []
    for line in _PROBES.strip().splitlines():
        model, *cells, source = (cell.strip() for cell in line.split("|"))
        for task, cell in zip(_TASKS, cells, strict=True):
            for fraction, value in zip((0.01, 0.1, 1.0), cell.split(), strict=True):
                found.append(Published(model, task, "linear_probe", _share(value), _source(source, task), fraction=fraction))
    for protocol, table in (("zero_shot", _ZERO_SHOT), ("linear_probe_crops", _OTHER_PROTOCOL)):
        for line in table.strip().splitlines():
            model, values, source = (cell.strip() for cell in line.split("|"))
            for task, value in zip(_TASKS, values.split(), strict=True):
                if value != "-":
                    found.append(Published(model, task, protocol, _share(value), _source(source, task)))
    return tuple(found)


def _source(letter: str, task: str) -> str:
    return _SOURCES[letter] + ("" if letter == "A" else _LABEL_FAULTS.get(task, ""))


def _share(percent: str) -> float:
    return round(float(percent) / 100, 4)


_ALL = _rows()
PUBLISHED = tuple(row for row in _ALL if row.model.startswith("MERL"))
PUBLISHED_PEERS = tuple(row for row in _ALL if not row.model.startswith("MERL"))

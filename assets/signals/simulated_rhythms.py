"""When the beats of a simulated ECG come, and the atrial waves of fibrillation and flutter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

RHYTHMS: frozenset[str] = frozenset({"SR", "SBRAD", "STACH", "SARRH", "AFIB", "AFLT", "PACE", "BIGU"})

_RATE_PER_MINUTE = {
    "SR": (61.0, 95.0),
    "SBRAD": (41.0, 54.0),
    "STACH": (106.0, 142.0),
    "SARRH": (58.0, 84.0),
    "AFIB": (62.0, 138.0),
    "PACE": (60.0, 74.0),
}


@dataclass(frozen=True)
class Moment:
    """One beat in time.

    Attributes:
        second: middle of the QRS.
        rr: seconds since the beat before, which sets the length of QT.
        kind: "normal" (through the patient's own conduction, or paced) or "ventricular".
        atrial: whether a P wave goes before it.
        ectopic_atrial: whether that P wave comes from outside the sinus node.
    """

    second: float
    rr: float
    kind: str = "normal"
    atrial: bool = True
    ectopic_atrial: bool = False


def flutter_cycle(rng: Generator) -> float:
    """Seconds from one flutter wave to the next."""
    return 60.0 / float(rng.uniform(255.0, 325.0))


def beat_moments(codes: frozenset[str], cycle: float, rng: Generator, duration: float) -> list[Moment]:
    """Beats from before the first sample to after the last; in flutter they fall on multiples of `cycle` seconds."""
    rhythm = next((c for c in sorted(codes & RHYTHMS) if c != "BIGU"), "SR")
    if "BIGU" in codes:
        return _bigeminy(rng, duration)
    if rhythm == "AFLT":
        return _flutter_beats(cycle, rng, duration)
    interval = _intervals(rhythm, rng, duration)
    second = np.cumsum(interval) - interval[0] * (1.0 + rng.random())
    atrial = rhythm not in ("AFIB", "PACE")
    moments = [Moment(float(s), float(r), atrial=atrial) for s, r in zip(second, interval, strict=True)]
    if "PAC" in codes:
        moments = _make_premature(moments, rng, duration, ventricular=False)
    if "PVC" in codes:
        moments = _make_premature(moments, rng, duration, ventricular=True)
    return moments


def _intervals(rhythm: str, rng: Generator, duration: float) -> NDArray[np.float64]:
    mean = 60.0 / rng.uniform(*_RATE_PER_MINUTE[rhythm])
    n = int(duration / mean * 1.6) + 6
    if rhythm == "AFIB":
        shape = 1.0 / rng.uniform(0.17, 0.26) ** 2
        return np.maximum(rng.gamma(shape, mean / shape, n), 0.34)
    if rhythm == "PACE":
        return np.full(n, mean)
    breath = 2 * np.pi * rng.uniform(0.14, 0.24) * mean * np.arange(n) + rng.uniform(0.0, 2 * np.pi)
    swing = rng.uniform(0.2, 0.3) if rhythm == "SARRH" else rng.uniform(0.0, 0.03)
    result: NDArray[np.float64] = mean * (1.0 + swing * np.sin(breath) + rng.normal(0.0, 0.008, n))
    return result


def _bigeminy(rng: Generator, duration: float) -> list[Moment]:
    """Each sinus beat is followed by a ventricular one and a compensatory pause."""
    mean = 60.0 / rng.uniform(64.0, 88.0)
    coupling = rng.uniform(0.56, 0.66) * mean
    moments, second = [], -2.0 * mean * rng.random()
    while second < duration + 1.0:
        moments.append(Moment(second, 2 * mean - coupling))
        moments.append(Moment(second + coupling + rng.normal(0.0, 0.006), coupling, kind="ventricular", atrial=False))
        second += 2.0 * mean * (1.0 + rng.normal(0.0, 0.01))
    return moments


def _flutter_beats(cycle: float, rng: Generator, duration: float) -> list[Moment]:
    """Every second, third or fourth flutter wave is conducted; now and then a beat has another ratio."""
    usual = int(rng.choice([2, 3, 4], p=[0.3, 0.3, 0.4]))
    second, moments = -usual * cycle * rng.random(), []
    while second < duration + 1.0:
        ratio = usual if rng.random() > 0.12 else int(rng.integers(2, 5))
        second += ratio * cycle
        moments.append(Moment(second, ratio * cycle, atrial=False))
    return moments


def _make_premature(moments: list[Moment], rng: Generator, duration: float, *, ventricular: bool) -> list[Moment]:
    """Bring one to three beats forward; after a ventricular one the sinus goes on in its own time, after an atrial one it restarts."""
    inside = [i for i, m in enumerate(moments) if 0.6 < m.second < duration - 1.0 and m.kind == "normal" and not m.ectopic_atrial]
    wanted = int(rng.integers(1, 4))
    chosen: list[int] = []
    for i in rng.permutation(inside):
        if len(chosen) < wanted and all(abs(int(i) - other) > 2 for other in chosen):
            chosen.append(int(i))
    shift = 0.0
    result = []
    for i, moment in enumerate(moments):
        second, rr = moment.second - shift, moment.rr
        if i in chosen:
            early = moment.rr * rng.uniform(0.34, 0.42)
            if ventricular:
                result.append(Moment(second - early, rr - early, kind="ventricular", atrial=False))
                continue
            shift += early
            result.append(Moment(second - early, rr - early, atrial=moment.atrial, ectopic_atrial=True))
            continue
        result.append(Moment(second, rr, moment.kind, moment.atrial, moment.ectopic_atrial))
    return result


def fibrillation(seconds_T: NDArray[np.float64], rng: Generator) -> NDArray[np.float64]:
    """Fibrillatory waves, 5 to 8 a second and never twice the same, millivolts, shape (3, T)."""
    size = rng.uniform(0.028, 0.06)
    total = np.zeros((3, len(seconds_T)))
    for direction in ([0.35, 0.8, 1.0], [-0.3, 0.6, 0.9], [0.6, -0.4, 0.5]):
        rate = rng.uniform(5.0, 8.0)
        wobble = rng.uniform(0.6, 1.6) * np.sin(2 * np.pi * rng.uniform(0.3, 0.9) * seconds_T + rng.uniform(0.0, 2 * np.pi))
        swell = 1.0 + 0.45 * np.sin(2 * np.pi * rng.uniform(0.2, 0.6) * seconds_T + rng.uniform(0.0, 2 * np.pi))
        phase = 2 * np.pi * rate * seconds_T + wobble + rng.uniform(0.0, 2 * np.pi)
        wave = np.sin(phase) + 0.3 * np.sin(2 * phase)
        total += size * np.array(direction)[:, None] * (swell * wave)
    return total


def flutter(seconds_T: NDArray[np.float64], cycle: float, first_beat: float, rng: Generator) -> NDArray[np.float64]:
    """Saw-tooth flutter waves in step with the beats, negative in II, III and aVF, positive in V1.

    Args:
        seconds_T: times of the samples, shape (T,).
        cycle: seconds from one flutter wave to the next.
        first_beat: second of a conducted beat.
        rng: source of the waves' size.

    Returns:
        Millivolts, shape (3, T).
    """
    phase_T = 2 * np.pi * (seconds_T - first_beat) / cycle
    harmonic_H = np.arange(1, 5)[:, None]
    saw_T = (np.sin(harmonic_H * phase_T) / harmonic_H).sum(axis=0)
    direction_3 = np.array([-0.15, -0.9, 0.5])
    result: NDArray[np.float64] = float(rng.uniform(0.12, 0.18)) * direction_3[:, None] * saw_T
    return result

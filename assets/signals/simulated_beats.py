"""The shape of one simulated beat, and what each finding does to it.

Vectors are (X left, Y down, Z front) in millivolts, times are seconds from the middle of a normal QRS.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass
class Beat:
    """Waves of one beat before it is placed in time.

    Attributes:
        p: vectors of the right and the left atrium, shape (2, 3); zero where no P wave belongs to the beat.
        p_gap: seconds from the right to the left atrial peak.
        pr: seconds from the onset of P to the onset of QRS.
        qrs_at, qrs_width, qrs: centres, standard deviations and vectors of the QRS waves, shapes (Q,), (Q,), (Q, 3).
        st: vector of the ST plateau.
        t: vector of the T wave; t_early scales its first half, which makes T biphasic where it is negative.
        qt: factor on the T wave's delay.
    """

    p: Array
    p_gap: float
    pr: float
    qrs_at: Array
    qrs_width: Array
    qrs: Array
    st: Array
    t: Array
    t_early: float = 0.55
    qt: float = 1.0

    def waves(self, rr: float, *, atrial: bool, ectopic_atrial: bool) -> tuple[Array, Array, Array]:
        """Centres (W,), widths (W,) and vectors (W, 3) of the beat's waves after a cycle of `rr` seconds."""
        pace = float(np.clip(rr, 0.42, 1.3)) ** 0.5
        peak = 0.295 * self.qt * pace + max(0.0, float(self.qrs_at.max()) - 0.025)
        centres = [self.qrs_at, np.array([0.115, peak - 0.055 * pace, peak])]
        widths = [self.qrs_width, pace * np.array([0.042, 0.046, 0.033])]
        vectors = [self.qrs, self.st[None], np.stack([self.t_early * self.t, self.t])]
        if atrial:
            onset = float(self.qrs_at.min()) - 0.02 - self.pr
            centres.append(onset + 0.045 + np.array([0.0, self.p_gap]))
            widths.append(np.array([0.019, 0.019]))
            vectors.append(self.p * ([0.4, -0.7, 1.0] if ectopic_atrial else [1.0, 1.0, 1.0]))
        return np.concatenate(centres), np.concatenate(widths), np.concatenate(vectors)


def normal_beat(rng: Generator) -> Beat:
    """A normal beat of one patient."""
    qrs = np.array([[-0.13, -0.06, 0.24], [0.92, 0.72, -0.1], [-0.06, -0.1, -0.48]])
    return Beat(
        p=np.array([[0.035, 0.075, 0.045], [0.05, 0.055, -0.03]]) * rng.uniform(0.8, 1.25),
        p_gap=rng.uniform(0.022, 0.032),
        pr=rng.uniform(0.13, 0.175),
        qrs_at=np.array([-0.024, 0.0, 0.024]),
        qrs_width=np.array([0.0085, 0.0115, 0.0105]) * rng.uniform(0.93, 1.08),
        qrs=qrs * rng.uniform(0.75, 1.25, (3, 1)) + rng.normal(0.0, 0.05, (3, 3)),
        st=np.array([0.01, 0.01, 0.03]) * rng.uniform(0.2, 1.2),
        t=np.array([0.21, 0.15, 0.15]) * rng.uniform(0.7, 1.35) + rng.normal(0.0, 0.03, 3),
    )


def ventricular_beat(rng: Generator) -> Beat:
    """A premature ventricular beat: wide, tall, T opposite to QRS; from the right or the left ventricle."""
    side = np.array([0.75, 0.5, -0.9]) if rng.random() < 0.6 else np.array([-0.55, 0.45, 0.85])
    side = side * [1.0, rng.choice([-1.0, 1.0]), 1.0] * rng.uniform(1.1, 1.5)
    return Beat(
        p=np.zeros((2, 3)),
        p_gap=0.03,
        pr=0.15,
        qrs_at=np.array([-0.03, 0.03]),
        qrs_width=np.array([0.026, 0.03]),
        qrs=np.stack([side, 0.75 * side + rng.normal(0.0, 0.1, 3)]),
        st=-0.14 * side,
        t=-0.38 * side,
        qt=1.12,
    )


def paced_beat(rng: Generator) -> Beat:
    """A beat from a pacemaker in the right ventricular apex: spike, then a wide QRS to the left, up and back."""
    side = np.array([0.6, -0.72, -0.75]) * rng.uniform(0.85, 1.15)
    spike = np.array([0.7, -0.9, -0.3]) * rng.uniform(0.9, 1.5)
    return Beat(
        p=np.zeros((2, 3)),
        p_gap=0.03,
        pr=0.15,
        qrs_at=np.array([-0.085, -0.03, 0.03]),
        qrs_width=np.array([0.0045, 0.024, 0.028]),
        qrs=np.stack([spike, side, 0.8 * side]),
        st=-0.13 * side,
        t=-0.36 * side,
        qt=1.1,
    )


def _left_bundle_branch_block(beat: Beat, rng: Generator) -> None:
    beat.qrs_at = np.array([-0.02, 0.014, 0.05])
    beat.qrs_width = np.array([0.0135, 0.0165, 0.0165])
    beat.qrs = np.array([[0.5, 0.3, -0.34], [0.55, 0.3, -0.95], [0.8, 0.14, -0.6]]) * rng.uniform(0.9, 1.2)
    beat.st = np.array([-0.1, -0.05, 0.17])
    beat.t = np.array([-0.26, -0.06, 0.27]) * rng.uniform(0.9, 1.2)


def _right_bundle_branch_block(beat: Beat, rng: Generator) -> None:
    late = np.array([-0.48, -0.06, 0.6]) * rng.uniform(0.6, 1.3)
    beat.qrs_at = np.append(beat.qrs_at, [0.052, 0.08])
    beat.qrs_width = np.append(beat.qrs_width, [0.015, 0.018])
    beat.qrs = np.concatenate([beat.qrs, [late, 0.55 * late]])
    beat.t = beat.t + np.array([0.08, 0.03, -0.24])


def _incomplete_right_bundle_branch_block(beat: Beat, rng: Generator) -> None:
    beat.qrs_at = np.append(beat.qrs_at, 0.05)
    beat.qrs_width = np.append(beat.qrs_width, 0.011)
    beat.qrs = np.concatenate([beat.qrs, [np.array([-0.3, -0.04, 0.36]) * rng.uniform(0.7, 1.3)]])
    beat.t = beat.t + np.array([0.02, 0.0, -0.08])


def _left_anterior_fascicular_block(beat: Beat, rng: Generator) -> None:
    beat.qrs[0] = np.array([-0.16, 0.3, 0.14])
    beat.qrs[1] = np.array([0.86, -0.62, -0.22]) * rng.uniform(0.9, 1.15)
    beat.qrs[2] = np.array([0.16, -0.48, -0.34])
    beat.qrs_at[2] += 0.008


def _long_pr(beat: Beat, rng: Generator) -> None:
    beat.pr = rng.uniform(0.21, 0.3)


def _toward(old: Array, new: list[float], share: float) -> Array:
    """Between the patient's own vector and that of the full picture."""
    return (1.0 - share) * old + share * np.array(new)


def _anterior_infarct(beat: Beat, rng: Generator) -> None:
    size = rng.uniform(0.45, 1.15)
    beat.qrs[0] = _toward(beat.qrs[0], [0.05, 0.05, -0.42], size)
    beat.qrs[1] += np.array([-0.1, 0.0, -0.3]) * size
    beat.qrs_width[0] = 0.012
    beat.st = beat.st + np.array([0.04, -0.02, 0.16]) * size
    beat.t = _toward(beat.t, [-0.06, 0.04, -0.3], size)


def _anteroseptal_infarct(beat: Beat, rng: Generator) -> None:
    size = rng.uniform(0.45, 1.15)
    beat.qrs[0] = _toward(beat.qrs[0], [0.14, 0.02, -0.3], size)
    beat.qrs_width[0] = 0.0115
    beat.st = beat.st + np.array([-0.03, 0.0, 0.09]) * size
    beat.t = _toward(beat.t, [0.2, 0.14, -0.1], size)


def _inferior_infarct(beat: Beat, rng: Generator) -> None:
    size = rng.uniform(0.45, 1.15)
    beat.qrs[0] = _toward(beat.qrs[0], [-0.02, -0.46, 0.16], size)
    beat.qrs_width[0] = 0.0125
    beat.qrs_at[0] = -0.029
    beat.qrs[1] *= [1.0, 0.72, 1.0]
    beat.st = beat.st + np.array([-0.03, 0.05, 0.0]) * size
    beat.t = _toward(beat.t, [0.24, -0.24, 0.17], size)


def _left_ventricular_hypertrophy(beat: Beat, rng: Generator) -> None:
    _left_ventricular_voltage(beat, rng)
    strain = rng.uniform(0.3, 1.3)
    beat.st = beat.st + np.array([-0.09, -0.03, 0.03]) * strain
    beat.t = _toward(beat.t, [-0.2, -0.02, 0.17], strain)
    beat.qrs_width = beat.qrs_width * 1.1


def _left_ventricular_voltage(beat: Beat, rng: Generator) -> None:
    beat.qrs[1:] *= np.array([1.75, 1.05, 1.7]) * rng.uniform(0.95, 1.3)
    beat.qrs[1, 2] -= 0.3


def _right_ventricular_hypertrophy(beat: Beat, rng: Generator) -> None:
    size = rng.uniform(0.65, 1.1)
    beat.qrs[1] = _toward(beat.qrs[1], [-0.42, 0.72, 0.52], size)
    beat.qrs[2] = _toward(beat.qrs[2], [-0.42, 0.02, -0.1], size)
    beat.t = _toward(beat.t, [0.2, -0.06, -0.22], size)
    beat.st = beat.st + np.array([0.0, -0.03, -0.05])
    beat.p = beat.p * [1.0, 1.4, 1.2]


def _left_atrial_enlargement(beat: Beat, rng: Generator) -> None:
    beat.p_gap = rng.uniform(0.048, 0.06)
    beat.p = np.array([[0.035, 0.08, 0.06], [0.08, 0.08, -0.1]]) * rng.uniform(1.0, 1.35)
    beat.pr += 0.02


def _ischaemia(beat: Beat, rng: Generator) -> None:
    size = rng.uniform(0.4, 1.3)
    beat.st = beat.st + np.array([-0.11, -0.07, -0.07]) * size
    beat.t = _toward(beat.t, [-0.14, -0.09, -0.1], size)


def _st_depression(beat: Beat, rng: Generator) -> None:
    beat.st = beat.st + np.array([-0.09, -0.07, -0.08]) * rng.uniform(0.5, 1.25)


def _st_elevation(beat: Beat, rng: Generator) -> None:
    size = rng.uniform(0.6, 1.25)
    beat.st = beat.st + np.array([0.07, 0.07, 0.11]) * size
    beat.t = beat.t * 1.2


def _nonspecific_st(beat: Beat, rng: Generator) -> None:
    beat.st = beat.st + np.array([-0.065, -0.05, -0.03]) * rng.uniform(0.5, 1.3)
    beat.t = beat.t * 0.7


def _nondiagnostic_t(beat: Beat, rng: Generator) -> None:
    beat.t = beat.t * [0.35, 0.45, 0.6]
    beat.t_early = float(rng.uniform(-1.1, -0.2))


def _low_t(beat: Beat, rng: Generator) -> None:
    beat.t = beat.t * rng.uniform(0.12, 0.4)


def _inverted_t(beat: Beat, rng: Generator) -> None:
    beat.t = np.minimum(beat.t, -0.7 * np.abs(beat.t)) * rng.uniform(0.85, 1.2)


def _long_qt(beat: Beat, rng: Generator) -> None:
    beat.qt = float(rng.uniform(1.22, 1.42))


def _q_waves(beat: Beat, rng: Generator) -> None:
    beat.qrs[0] = beat.qrs[0] + np.array([-0.05, -0.3, 0.0]) * rng.uniform(0.9, 1.2)
    beat.qrs_at[0] -= 0.003


def _abnormal_qrs(beat: Beat, rng: Generator) -> None:
    notch = np.array([-0.22, -0.2, 0.2]) * rng.uniform(0.9, 1.3)
    beat.qrs_at = np.append(beat.qrs_at, rng.uniform(0.004, 0.012))
    beat.qrs_width = np.append(beat.qrs_width, 0.006)
    beat.qrs = np.concatenate([beat.qrs, [1.6 * notch]])


def _low_voltage(beat: Beat, rng: Generator) -> None:
    beat.qrs = beat.qrs * rng.uniform(0.3, 0.5)


MORPHOLOGIES: Mapping[str, Callable[[Beat, Generator], None]] = {
    "CLBBB": _left_bundle_branch_block,
    "LAFB": _left_anterior_fascicular_block,
    "RVH": _right_ventricular_hypertrophy,
    "AMI": _anterior_infarct,
    "ASMI": _anteroseptal_infarct,
    "IMI": _inferior_infarct,
    "QWAVE": _q_waves,
    "CRBBB": _right_bundle_branch_block,
    "IRBBB": _incomplete_right_bundle_branch_block,
    "LVH": _left_ventricular_hypertrophy,
    "VCLVH": _left_ventricular_voltage,
    "LAO/LAE": _left_atrial_enlargement,
    "1AVB": _long_pr,
    "LPR": _long_pr,
    "ISC_": _ischaemia,
    "NDT": _nondiagnostic_t,
    "LOWT": _low_t,
    "INVT": _inverted_t,
    "NST_": _nonspecific_st,
    "STD_": _st_depression,
    "STE_": _st_elevation,
    "LNGQT": _long_qt,
    "ABQRS": _abnormal_qrs,
    "LVOLT": _low_voltage,
}
"""What each finding does to a normal beat, applied in this order: the path of conduction first, low voltage last."""

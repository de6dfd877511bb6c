"""Writes WFDB records as the MIT collections have them, for imitations of datasets and for tests.

Signal formats 212 (two 12-bit samples in three bytes) and 80 (a byte a sample), and annotation files (signal(5), annot(5) of the
WFDB manual).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

CODES: dict[str, int] = {
    "N": 1, "L": 2, "R": 3, "a": 4, "V": 5, "F": 6, "J": 7, "A": 8, "S": 9, "E": 10, "j": 11, "/": 12, "Q": 13, "~": 14,
    "|": 16, "s": 18, "T": 19, "*": 20, "p": 24, "t": 27, "+": 28, "u": 29, "!": 31, "[": 32, "]": 33, "e": 34, "x": 37,
    "f": 38, "(": 39, ")": 40, "r": 41,
}  # fmt: skip
"""Annotation codes by symbol."""

_SKIP, _NOTE = 59, 63


class Signal(NamedTuple):
    """A signal line's own words: gain with baseline and unit, the converter's zero, the lead, resolution in bits."""

    gain: str
    lead: str
    zero: int = 0
    bits: int = 12


def write_signals(
    folder: Path, name: str, form: int, counts_LT: NDArray[Any], signals: Sequence[Signal], rate: str, comments: Sequence[str] = ()
) -> None:
    """Write `<name>.hea` and `<name>.dat`.

    Args:
        folder: made when it is not there.
        name: of the record and its two files.
        form: 212 or 80.
        counts_LT: whole numbers that fit the format, shape (signals, samples).
        signals: what the header says of each.
        rate: sampling rate as the header writes it, "360" or "250/360".
        comments: lines behind the signal lines, without their "#".

    Raises:
        ValueError: a format other than those two, or a count that does not fit.
    """
    counts_LT = np.asarray(counts_LT, np.int64)
    low, high = {212: (-2048, 2047), 80: (-128, 127)}[form]
    if counts_LT.size and (counts_LT.min() < low or counts_LT.max() > high):
        raise ValueError(f"{name}: counts from {counts_LT.min()} to {counts_LT.max()} do not fit format {form}")
    sums = counts_LT.sum(axis=1).astype(np.int16)
    lines = [f"{name} {len(signals)} {rate} {counts_LT.shape[1]}"]
    for signal, counts_T, total in zip(signals, counts_LT, sums, strict=True):
        lines.append(f"{name}.dat {form} {signal.gain} {signal.bits} {signal.zero} {counts_T[0]} {total} 0 {signal.lead}")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.hea").write_text("\n".join([*lines, *(f"#{c}" for c in comments)]) + "\n")
    flat = counts_LT.T.ravel()
    (folder / f"{name}.dat").write_bytes(_twelve_bits(flat) if form == 212 else (flat + 128).astype(np.uint8).tobytes())


def _twelve_bits(flat: NDArray[np.int64]) -> bytes:
    """Pairs of samples in three bytes: low byte of the first, both high nibbles, low byte of the second."""
    pairs = np.pad(flat, (0, len(flat) % 2)).reshape(-1, 2) & 0xFFF
    packed = np.stack([pairs[:, 0] & 0xFF, pairs[:, 0] >> 8 | pairs[:, 1] >> 8 << 4, pairs[:, 1] & 0xFF], axis=1)
    return packed.astype(np.uint8).tobytes()


def write_annotations(path: Path, samples: Sequence[int], symbols: Sequence[str], notes: Sequence[str] | None = None) -> None:
    """Write an annotation file.

    Args:
        path: `<record>.<annotator>`.
        samples: sample numbers in order.
        symbols: one of `CODES` each.
        notes: texts such as "(AFIB", "" for none.
    """
    data, last = b"", 0
    for sample, symbol, note in zip(samples, symbols, notes or [""] * len(samples), strict=True):
        gap, last = sample - last, sample
        if gap > 1023:
            data += _word(_SKIP, 0) + (gap >> 16).to_bytes(2, "little") + (gap & 0xFFFF).to_bytes(2, "little")
            gap = 0
        data += _word(CODES[symbol], gap)
        if note:
            text = note.encode() + b"\0"
            data += _word(_NOTE, len(text)) + text + b"\0" * (len(text) % 2)
    path.write_bytes(data + b"\0\0")


def _word(code: int, value: int) -> bytes:
    return (code << 10 | value).to_bytes(2, "little")

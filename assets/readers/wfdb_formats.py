"""The signal formats of WFDB: how many bytes samples take, and how bytes become counts.

Written from the format's description (signal(5) of the WFDB manual). Formats 8, 16, 24, 32, 61, 80, 160, 212, 310 and 311
are read here, FLAC (508, 516, 524) through libsndfile.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from assets.readers import wfdb_files
from assets.record import RecordError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FLAC_CHUNK = 1 << 20


class Format(NamedTuple):
    """A signal format.

    Attributes:
        missing: the count that marks a missing sample.
        samples: samples in a block that starts at a byte of its own.
        n_bytes: bytes of a block.
        unfinished: bytes of a last block by the number of samples in it.
        wide: counts need 32 bits.
    """

    missing: int
    samples: int = 1
    n_bytes: int = 1
    unfinished: tuple[int, ...] = (0,)
    wide: bool = False

    def bytes_of(self, n_samples: int) -> int:
        """Fewest bytes that hold so many samples."""
        blocks, rest = divmod(n_samples, self.samples)
        return blocks * self.n_bytes + self.unfinished[rest]

    def whole_bytes_of(self, n_samples: int) -> int:
        """Bytes of the blocks that hold so many samples; some writers fill the last one."""
        return -(-n_samples // self.samples) * self.n_bytes

    def frames_in(self, n_bytes: int, width: int) -> int | None:
        """Frames of `width` samples in so many bytes, None where they hold no whole number of them.

        Where a writer has filled the last block, what fills it counts as samples, as far as it makes a whole frame.
        """
        blocks, rest = divmod(n_bytes, self.n_bytes)
        if rest not in self.unfinished:
            return None
        frames, surplus = divmod(blocks * self.samples + self.unfinished.index(rest), width)
        return frames if surplus <= (0 if rest else self.samples - 1) else None


FORMATS: dict[int, Format] = {
    8: Format(-(1 << 31), wide=True),  # differences: their sums have no value that means missing
    16: Format(-(1 << 15), 1, 2),
    24: Format(-(1 << 23), 1, 3, wide=True),
    32: Format(-(1 << 31), 1, 4, wide=True),
    61: Format(-(1 << 15), 1, 2),
    80: Format(-(1 << 7)),
    160: Format(-(1 << 15), 1, 2),
    212: Format(-(1 << 11), 2, 3, (0, 2)),
    310: Format(-(1 << 9), 3, 4, (0, 2, 4)),
    311: Format(-(1 << 9), 3, 4, (0, 2, 3)),
    508: Format(-(1 << 7)),
    516: Format(-(1 << 15)),
    524: Format(-(1 << 23), wide=True),
}
"""Every format that is read."""

FLAC_FORMATS = frozenset((508, 516, 524))


def unpack(fmt: int, packed: NDArray[np.uint8], n_samples: int) -> NDArray[Any]:
    """Counts of samples stored one after the other.

    Args:
        fmt: number of a format other than FLAC.
        packed: whole blocks, from a sample that starts one.
        n_samples: how many samples are wanted.

    Returns:
        int16 or int32, shape (n_samples,); for format 8 the differences.
    """
    if fmt == 16:
        return packed.view(np.dtype("<i2"))[:n_samples]
    if fmt == 212:
        from assets.readers.wfdb_kernels import unpack_212

        counts = np.empty(packed.size // 3 * 2, np.int16)
        unpack_212(packed, counts)
        return counts[:n_samples]
    if fmt in (310, 311):
        return _unpack_31x(fmt, packed)[:n_samples]
    if fmt == 61:
        return packed.view(np.dtype(">i2"))[:n_samples].astype(np.int16)
    if fmt == 160:
        return (packed.view(np.dtype("<u2"))[:n_samples] ^ np.uint16(0x8000)).view(np.int16)
    if fmt == 80:
        return (packed[:n_samples] ^ np.uint8(0x80)).view(np.int8).astype(np.int16)
    if fmt == 24:
        padded = np.zeros((n_samples, 4), np.uint8)
        padded[:, 1:] = packed[: 3 * n_samples].reshape(-1, 3)
        return padded.reshape(-1).view(np.dtype("<i4")).astype(np.int32) >> 8
    if fmt == 32:
        return packed.view(np.dtype("<i4"))[:n_samples]
    return packed[:n_samples].view(np.int8).astype(np.int32)


def _unpack_31x(fmt: int, packed: NDArray[np.uint8]) -> NDArray[np.int16]:
    """Three 10-bit counts from each four bytes."""
    word = packed.view(np.dtype("<u4"))
    counts = np.empty((word.size, 3), np.int16)
    if fmt == 310:
        counts[:, 0] = (word >> 1) & 0x3FF
        counts[:, 1] = (word >> 17) & 0x3FF
        counts[:, 2] = ((word >> 11) & 0x1F) | ((word >> 22) & 0x3E0)
    else:
        for i in range(3):
            counts[:, i] = (word >> (10 * i)) & 0x3FF
    return (counts.reshape(-1) ^ 0x200) - np.int16(0x200)


def undo_differences(steps_TW: NDArray[Any], per_frame: tuple[int, ...], before: NDArray[np.int64]) -> NDArray[np.int32]:
    """Counts of format 8, whose signals each go on from their own last sample.

    Args:
        steps_TW: differences, shape (frames, samples a frame).
        per_frame: samples a frame of each signal.
        before: count of each signal in front of the first difference.
    """
    counts_TW = np.empty(steps_TW.shape, np.int32)
    first = 0
    for n, start in zip(per_frame, before.tolist(), strict=True):
        steps = steps_TW[:, first : first + n].reshape(-1)
        counts = np.cumsum(steps, dtype=np.int64) + start
        counts_TW[:, first : first + n] = counts.astype(np.int32).reshape(-1, n)
        first += n
    return counts_TW


@contextmanager
def _flac(path: str, fmt: int, n_signals: int) -> Iterator[Any]:
    """An open FLAC stream with so many channels; what goes wrong inside is a RecordError."""
    import soundfile  # type: ignore[import-untyped]

    with wfdb_files.opened(path) as stream:
        if stream.read(4) != b"fLaC":
            raise RecordError("bad_signal_file", path, "is no FLAC file, though its header says so; download it again")
        stream.seek(0)
        try:
            with soundfile.SoundFile(stream.fileno(), closefd=False) as sound:
                bits = {"PCM_S8": 8, "PCM_16": 16, "PCM_24": 24}.get(sound.subtype, 99)
                if sound.channels != n_signals or bits > fmt - 500:
                    raise RecordError(
                        "bad_signal_file",
                        path,
                        f"holds {sound.channels} channels of {sound.subtype}; its header says {n_signals} of format {fmt}",
                    )
                yield sound
        except (soundfile.SoundFileError, ValueError, TypeError, AssertionError) as error:
            raise RecordError("bad_signal_file", path, f"cannot be decoded as FLAC ({type(error).__name__}); download it again") from error


def flac_length(path: str, fmt: int, n_signals: int) -> int:
    """Samples per signal that a FLAC file states.

    Raises:
        RecordError: reasons unreadable, bad_signal_file.
    """
    with _flac(path, fmt, n_signals) as sound:
        return int(sound.frames)


def read_flac(path: str, fmt: int, n_signals: int, start: int, stop: int) -> NDArray[Any]:
    """Counts of FLAC samples, int16 or int32, shape (samples, signals).

    Raises:
        RecordError: reasons unreadable, bad_signal_file, truncated.
    """
    with _flac(path, fmt, n_signals) as sound:
        counts_TL = np.empty((stop - start, n_signals), np.int32 if fmt == 524 else np.int16)
        sound.seek(start)
        # In parts: libsndfile fails on more than 2^24 samples at once.
        for first in range(0, stop - start, _FLAC_CHUNK):
            part = counts_TL[first : first + _FLAC_CHUNK]
            if len(sound.read(out=part)) != len(part):
                raise RecordError("truncated", path, f"ends before sample {stop}; download it again")
        # libsndfile shifts to the upper end what does not fill its samples.
        if counts_TL.dtype == np.int32:
            counts_TL >>= 8 if sound.subtype == "PCM_24" else 16 if sound.subtype == "PCM_16" else 24
        elif sound.subtype == "PCM_S8":
            counts_TL >>= 8
        return counts_TL

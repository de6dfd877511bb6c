"""Puts the channels of recordings into the order of a store."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from assets.dataset import Channel
from assets.record import Record, RecordError

if TYPE_CHECKING:
    from numpy.typing import NDArray


def refusal(reason: str, explanation: str) -> RecordError:
    """A fault of what a record holds rather than of one of its files."""
    return RecordError(reason, "", explanation)


class _Arrangement(NamedTuple):
    """Which row of a record each channel is, -1 where absent."""

    rows_L: NDArray[np.int64]
    absent_L: NDArray[np.bool_]
    as_it_is: bool


class ChannelLayout:
    """Puts the channels of records into the store's order, by name."""

    def __init__(self, channels: tuple[Channel, ...], required: tuple[str, ...] | None, zeros: bool) -> None:
        """`required` channels must be there (None: all); `zeros` lets any be absent as long as one is there."""
        self._channels = channels
        self._needed_L = np.array([not zeros and (required is None or c.name in required) for c in channels])
        self._known: dict[tuple[tuple[str, ...], tuple[str, ...]], _Arrangement] = {}

    def select(self, record: Record) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """The store's channels of a record, zeros where absent, and which are absent, shapes (channels, samples), (channels,).

        Raises:
            RecordError: reasons missing_leads, bad_units.
        """
        key = (record.leads, record.units)
        known = self._known.get(key) or self._known.setdefault(key, self._arrange(record))
        if known.as_it_is:
            return record.signal_LT, known.absent_L
        signal_LT = record.signal_LT[np.maximum(known.rows_L, 0)]
        signal_LT[known.absent_L] = 0
        return signal_LT, known.absent_L

    def named(self, flags_L: NDArray[np.bool_]) -> list[str]:
        """Names of the flagged channels."""
        return [self._channels[i].name for i in np.flatnonzero(flags_L)]

    def lacking(self, without_L: NDArray[np.bool_]) -> list[str]:
        """Names of channels that must not be without samples, but are; all of them where nothing is left."""
        return self.named(without_L if without_L.all() else without_L & self._needed_L)

    def _arrange(self, record: Record) -> _Arrangement:
        place = {name: i for i, name in enumerate(record.leads)}
        rows_L = np.array([place.get(channel.name, -1) for channel in self._channels])
        absent_L = rows_L < 0
        if lacking := self.lacking(absent_L):
            raise refusal("missing_leads", f"has no lead {', '.join(lacking)}")
        units = [(c, record.units[i]) for c, i in zip(self._channels, rows_L, strict=True) if i >= 0]
        if wrong := [f"{c.name} in {unit}, not {c.unit}" for c, unit in units if unit != c.unit]:
            raise refusal("bad_units", ", ".join(wrong))
        as_it_is = len(rows_L) == len(record.leads) and bool((rows_L == np.arange(len(rows_L))).all())
        return _Arrangement(rows_L, absent_L, as_it_is)

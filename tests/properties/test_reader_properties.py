"""Every reader on recordings drawn by hypothesis: sound ones come back as they were written, damaged ones as typed errors."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from assets.readers import read_record
from assets.readers.archives import ArchiveError, unpack
from assets.readers.wfdb_write import write_record
from assets.record import RecordError
from models.types import LEADS
from tests.fuzz import encoders as en
from tests.fuzz.targets import check_record


@dataclass(frozen=True)
class Recording:
    """What a file should hold: counts (leads, samples) of `scale_uV` each."""

    leads: tuple[str, ...]
    counts_LT: NDArray[np.int64]
    fs_hz: int
    scale_uV: float

    def each(self) -> list[tuple[str, NDArray[np.int64]]]:
        return list(zip(self.leads, self.counts_LT, strict=True))


@st.composite
def recordings(draw: st.DrawFn, every_lead: bool = False) -> Recording:
    leads = LEADS if every_lead else tuple(draw(st.permutations(LEADS))[: draw(st.integers(1, 12))])
    n = draw(st.integers(2, 30))
    # 100,000 divides by these: SCP-ECG and CSV state intervals, not rates.
    fs_hz = draw(st.sampled_from([50, 100, 125, 200, 250, 400, 500, 1000]))
    spread = draw(st.sampled_from([1, 9, 200, 4000]))  # second differences still fit in 16 bits
    counts_LT = np.random.default_rng(draw(st.integers(0, 2**32 - 1))).integers(-spread, spread + 1, (len(leads), n))
    return Recording(leads, counts_LT, fs_hz, draw(st.sampled_from([0.5, 1.0, 2.5, 5.0])))


def edf(r: Recording) -> bytes:
    high, low = f"{32767 * r.scale_uV:.8g}"[:8], f"{-32768 * r.scale_uV:.8g}"[:8]
    duration = f"{r.counts_LT.shape[1] / r.fs_hz:.8g}"[:8]
    return en.edf([en.edf_signal(f"ECG {lead}", [counts], low=low, high=high) for lead, counts in r.each()], duration=duration)


def dicom(r: Recording) -> bytes:
    channels = [en.dicom_channel(f"5.6.3-9-{en.SCP_CODES[lead]}", ChannelSensitivity=f"{r.scale_uV}") for lead in r.leads]
    return en.dicom([en.dicom_group(r.counts_LT.T.astype("<i2"), channels, SamplingFrequency=str(r.fs_hz))])


def muse(r: Recording) -> bytes:
    return en.muse([en.muse_lead(lead, counts, LeadAmplitudeUnitsPerBit=str(r.scale_uV)) for lead, counts in r.each()], base=str(r.fs_hz))


def aecg(r: Recording) -> bytes:
    leads = [en.aecg_lead(f"MDC_ECG_LEAD_{lead.upper()}", counts, scale=str(r.scale_uV)) for lead, counts in r.each()]
    return en.aecg([en.aecg_set(leads, increment=str(1 / r.fs_hz))])


def scp(order: int, packed: bool) -> Callable[[Recording], bytes]:
    def encode(r: Recording) -> bytes:
        return en.scp(dict(r.each()), packed=packed, order=order, interval_us=1_000_000 // r.fs_hz, nV=round(r.scale_uV * 1000))

    return encode


def csv(r: Recording) -> bytes:
    header = ",".join(["Time [s]", *(f"{lead} [uV]" for lead in r.leads)])
    rows = [",".join([f"{i / r.fs_hz:.6f}", *(repr(float(v)) for v in column)]) for i, column in enumerate(r.counts_LT.T * r.scale_uV)]
    return "\n".join([header, *rows]).encode()


def mat(r: Recording) -> bytes:
    return en.cpsc2018(r.counts_LT * (r.scale_uV / 1000))


def hdf5(r: Recording) -> bytes:
    stored_TL = (r.counts_LT.T * (r.scale_uV / 500)).astype(np.float64)
    stored_TL[[0, -1]] += 1  # no padding at the ends
    stored_TL[:, 3] = -(stored_TL[:, 0] + stored_TL[:, 1]) / 2
    return en.code15(stored_TL[None])


ENCODERS: dict[str, tuple[str, Callable[[Recording], bytes]]] = {
    "edf": ("a.edf", edf),
    "dicom": ("a.dcm", dicom),
    "muse": ("a.xml", muse),
    "aecg": ("a.xml", aecg),
    "csv": ("a.csv", csv),
    "mat": ("a.mat", mat),
    **{f"scp{order}{'packed' if packed else ''}": ("a.scp", scp(order, packed)) for order in (0, 1, 2) for packed in (True, False)},
}
FIXED_RATE = {"mat": 500.0}
NEED_ALL_LEADS = {"mat"}


@pytest.mark.parametrize("name", ENCODERS)
@given(data=st.data())
def test_what_is_written_comes_back(tmp_path: Path, name: str, data: st.DataObject) -> None:
    recording = data.draw(recordings(name in NEED_ALL_LEADS))
    file, encode = ENCODERS[name]
    encoded = encode(recording)
    (tmp_path / file).write_bytes(encoded)
    record = read_record(tmp_path / file)
    check_record(record, len(encoded))
    rows = dict(zip(record.leads, record.signal_LT, strict=True))
    for lead, counts in recording.each():
        np.testing.assert_allclose(rows[lead], counts * recording.scale_uV, rtol=2e-6, atol=0.01)
    assert record.fs_hz == pytest.approx(FIXED_RATE.get(name, recording.fs_hz), rel=1e-9)
    assert name == "muse" or record.leads == recording.leads


NASTY = (
    b"",
    b"-1",
    b"0",
    b"nan",
    b"1e308",
    b"99999999",
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"\x00\x00\x00\x80",
    b"../",
    b"<a>",
    b"&x;",
    b"\n",
    b" ",
    b",",
)


@st.composite
def damage(draw: st.DrawFn, data: bytes) -> bytes:
    """The bytes with one to three things wrong: cut, removed, doubled, overwritten or changed in a bit."""
    out = bytearray(data)
    for _ in range(draw(st.integers(1, 3))):
        if not out:
            break
        # Headers decide more than samples do.
        end = draw(st.sampled_from([min(len(out), 300), len(out)]))
        at = draw(st.integers(0, end - 1))
        size = draw(st.integers(1, 16))
        kind = draw(st.sampled_from(["cut", "remove", "double", "nasty", "bit", "bytes"]))
        if kind == "cut":
            del out[at:]
        elif kind == "remove":
            del out[at : at + size]
        elif kind == "double":
            out[at:at] = out[at : at + size]
        elif kind == "nasty":
            nasty = draw(st.sampled_from(NASTY))
            out[at : at + len(nasty)] = nasty
        elif kind == "bit":
            out[at] ^= 1 << draw(st.integers(0, 7))
        else:
            out[at : at + size] = draw(st.binary(min_size=size, max_size=size))
    return bytes(out)


def read_or_refuse(path: Path) -> None:
    try:
        record = read_record(path)
    except RecordError as error:
        assert en.PATIENT not in str(error)
        assert error.reason.replace("_", "").isalnum()
    else:
        check_record(record, sum(p.stat().st_size for p in path.parent.iterdir()))


@pytest.mark.parametrize("name", [*ENCODERS, "hdf5"])
@given(data=st.data())
def test_damage_is_refused_or_harmless(tmp_path: Path, name: str, data: st.DataObject) -> None:
    recording = data.draw(recordings(name in NEED_ALL_LEADS or name == "hdf5"))
    file, encode = ENCODERS.get(name, ("a.hdf5", hdf5))
    damaged = data.draw(damage(encode(recording)))
    (tmp_path / file).write_bytes(en.scp_repaired(damaged) if name.startswith("scp") else damaged)
    read_or_refuse(tmp_path / file)


VALUES = (
    b"",
    b" ",
    b"-1",
    b"0",
    b"1",
    b"3",
    b"1e9",
    b"nan",
    b"inf",
    b"0x10",
    b"1,5",
    b"99999999",
    b"Rhythm",
    b"TIME_X",
    b"uV",
    b"MV",
    b"s",
    b"ms",
    b"I",
    b"A" * 100,
)
FIELDS = {
    "muse": re.compile(rb"(?<=>)[^<>]*(?=</)"),
    "aecg": re.compile(rb'(?<==")[^"]*(?=")|(?<=>)[^<>]*(?=</)'),
    "csv": re.compile(rb"[^,\n]+"),
}


def edf_fields(data: bytes) -> list[tuple[int, int]]:
    n = data[252:256].strip()
    sizes = [8, 80, 80, 8, 8, 8, 44, 8, 8, 4, *(size for size in (16, 80, 8, 8, 8, 8, 8, 80, 8, 32) for _ in range(int(n)))]
    ends = np.cumsum(sizes).tolist()
    return [(end - size, end) for end, size in zip(ends, sizes, strict=True)]


@pytest.mark.parametrize("name", ["muse", "aecg", "csv", "edf"])
@given(data=st.data())
def test_fields_of_other_values_are_refused_or_harmless(tmp_path: Path, name: str, data: st.DataObject) -> None:
    """The file stays well-formed, its values do not."""
    file, encode = ENCODERS[name]
    encoded = encode(data.draw(recordings()))
    spans = edf_fields(encoded) if name == "edf" else [m.span() for m in FIELDS[name].finditer(encoded)]
    for start, end in sorted(data.draw(st.lists(st.sampled_from(spans), min_size=1, max_size=3, unique=True)), reverse=True):
        value = data.draw(st.sampled_from(VALUES))
        encoded = encoded[:start] + (value[: end - start].ljust(end - start) if name == "edf" else value) + encoded[end:]
    (tmp_path / file).write_bytes(encoded)
    read_or_refuse(tmp_path / file)


WORDS = (
    "r1.dat",
    "r1",
    "16",
    "212",
    "80",
    "16x2",
    "16:3",
    "16+24",
    "1000",
    "0",
    "-1",
    "1e9",
    "200(0)/mV",
    "(5)",
    "x",
    "99999999999999999999",
    "~",
    "../r1.dat",
    "I",
)


@given(data=st.data())
def test_wfdb_headers_of_other_words_are_refused_or_harmless(tmp_path: Path, data: st.DataObject) -> None:
    recording = data.draw(recordings())
    write_record(tmp_path, "r1", recording.counts_LT * recording.scale_uV, recording.leads, recording.fs_hz)
    lines = [line.split(" ") for line in (tmp_path / "r1.hea").read_text().splitlines()]
    for _ in range(data.draw(st.integers(1, 3))):
        line = data.draw(st.sampled_from(lines))
        line[data.draw(st.integers(0, len(line) - 1))] = data.draw(st.sampled_from(WORDS))
    (tmp_path / "r1.hea").write_text("\n".join(" ".join(line) for line in lines) + "\n")
    read_or_refuse(tmp_path / "r1.hea")


NAMES = st.text("ab./\\ é\n:", min_size=1, max_size=12)


@given(members=st.dictionaries(NAMES, st.binary(max_size=50), max_size=6), kind=st.sampled_from(["zip", "w", "w:gz"]))
def test_archives_arrive_whole_or_not_at_all(members: dict[str, bytes], kind: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "archive").write_bytes(en.zip_of(members) if kind == "zip" else en.tar_of(list(members.items()), mode=kind))
        try:
            found = unpack(folder / "archive", folder / "out", limit_bytes=1000)
        except ArchiveError:
            found = []
        else:
            files = {Path(n): data for n, data in members.items() if not (kind == "zip" and n.endswith("/"))}
            assert {p.relative_to(folder / "out"): p.read_bytes() for p in found} == files
        inside = {p for p in folder.rglob("*") if p.is_file()}
        assert inside == {folder / "archive", *found}

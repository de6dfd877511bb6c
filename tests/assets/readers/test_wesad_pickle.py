"""The reader of WESAD's pickles: what Python 2 and 3 write is read, what could run anything is refused unread."""

from __future__ import annotations

import os
import pickle
import pickletools
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assets.datasets.wesad import WESAD
from assets.readers.wesad_pickle import CHEST, MOST_INSTRUCTIONS, Session, read_wesad_pickle
from assets.record import RecordError

SHARED = os.environ.get("EINTHOVEN_SHARED_DATA")


def layout(n: int = 50) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    chest = {key: rng.standard_normal((n, len(columns))) for key, columns in CHEST.items()}
    chest["Temp"] = chest["Temp"].astype(np.float32)
    wrist = {"BVP": rng.standard_normal((9, 1))}
    return {"subject": "S2", "label": np.arange(n, dtype=np.int32) // 10, "signal": {"chest": chest, "wrist": wrist}}


def read(folder: Path, data: bytes) -> Session:
    path = folder / "S2.pkl"
    path.write_bytes(data)
    return read_wesad_pickle(path)


def refused(folder: Path, data: bytes) -> RecordError:
    with pytest.raises(RecordError) as caught:
        read(folder, data)
    assert "S2.pkl" in str(caught.value)
    return caught.value


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_what_python_3_writes_is_read_in_every_protocol(protocol: int, tmp_path: Path) -> None:
    truth = layout()
    session = read(tmp_path, pickle.dumps(truth, protocol))
    assert session.subject == "S2"
    assert np.array_equal(session.label_T, truth["label"])
    for key, columns in CHEST.items():
        for i, column in enumerate(columns):
            assert np.array_equal(session.signals[column], truth["signal"]["chest"][key][:, i])


@pytest.mark.parametrize("subject", ["S2", "S3"])
def test_what_python_2_writes_is_read_as_unpickling_would(subject: str, tmp_path: Path) -> None:
    """S3 of the imitation is in protocol 0, S2 in binary; the bytes are ours, so unpickling them here is safe."""
    WESAD.make_fixture(tmp_path)
    path = tmp_path / subject / f"{subject}.pkl"
    truth = pickle.loads(path.read_bytes(), encoding="latin1")
    session = read_wesad_pickle(path)
    assert np.array_equal(session.label_T, truth["label"])
    assert np.array_equal(session.signals["TEMP"], truth["signal"]["chest"]["Temp"][:, 0])
    assert np.array_equal(session.signals["ACC_Z"], truth["signal"]["chest"]["ACC"][:, 2])


def test_column_major_and_big_endian_arrays_are_read(tmp_path: Path) -> None:
    truth = layout()
    truth["signal"]["chest"]["ACC"] = np.asfortranarray(truth["signal"]["chest"]["ACC"])
    truth["signal"]["chest"]["ECG"] = truth["signal"]["chest"]["ECG"].astype(">f4")
    session = read(tmp_path, pickle.dumps(truth, 2))
    assert np.array_equal(session.signals["ACC_Y"], truth["signal"]["chest"]["ACC"][:, 1])
    assert np.array_equal(session.signals["ECG"], truth["signal"]["chest"]["ECG"][:, 0])


class Evil:
    """Calls something when it is unpickled."""

    def __init__(self, call: Any, *arguments: Any) -> None:
        self._parts = call, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self._parts


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize("place", ["top", "subject", "label", "wrist", "argument"])
def test_a_call_of_anything_else_is_refused_and_not_made(place: str, protocol: int, tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    evil = Evil(os.system, f"touch {trace}")
    value: Any = layout()
    if place == "top":
        value = evil
    elif place == "wrist":
        value["signal"]["wrist"]["BVP"] = {"deep": (evil,)}
    elif place == "argument":
        value["label"] = Evil(np.dtype, evil, False, True)
    else:
        value[place] = evil
    assert refused(tmp_path, pickle.dumps(value, protocol)).reason == "unsafe_pickle"
    assert not trace.exists()


@pytest.mark.parametrize(
    "data",
    {
        "a name put together from parts": b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94\x93\x8c\x02ls\x85R.",
        "a name that is a number": b"\x80\x04K\x01K\x02\x93.",
        "a dotted name": b"\x80\x04\x8c\x05numpy\x8c\x10ndarray.__init__\x93.",
        "a module behind an allowed prefix": b"cnumpy.core.multiarray.os\nsystem\n.",
        "eval": b"cbuiltins\neval\n(S'1'\ntR.",
        "another function of numpy": b"cnumpy\nload\n(S'x'\ntR.",
        "memmap through _reconstruct": b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nmemmap\n(I0\ntS'b'\ntR.",
        "_reconstruct of a given size": b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I999999999999\ntS'b'\ntR.",
        "codecs with another codec": b"c_codecs\nencode\n(X\x01\x00\x00\x00aX\x05\x00\x00\x00rot13tR.",
        "a persistent id": b"Pos.system\n.",
        "a binary persistent id": b"S'a'\nQ.",
        "INST": b"(S'ls'\nios\nsystem\n.",
        "OBJ": b"(cnumpy\nndarray\nS'ls'\no.",
        "NEWOBJ": b"\x80\x02cnumpy\nndarray\n(I9\nt\x81.",
        "NEWOBJ_EX": b"\x80\x04cnumpy\nndarray\n)}\x92.",
        "an extension code": b"\x80\x02\x82\x01.",
        "a foreign buffer": b"\x80\x05\x97.",
        "a list": b"(l.",
        "a state for a function": b"cnumpy\nndarray\n(dS'__defaults__'\nI1\nsb.",
        "a state for a dictionary": b"(d(dS'__class__'\nI1\nsb.",
        "a call of a text": b"S'os.system'\n(S'ls'\ntR.",
        "objects": b"cnumpy\ndtype\n(S'O8'\nI0\nI1\ntR.",
        "structures": b"cnumpy\ndtype\n(S'V16'\nI0\nI1\ntR.",
        "a structured type by its text": b"cnumpy\ndtype\n(S'f8,O'\nI0\nI1\ntR.",
        "a type with fields in its state": b"cnumpy\ndtype\n(S'f8'\nI0\nI1\ntR(I3\nS'<'\nN(S'a'\nt(dI-1\nI-1\nI0\ntb.",
        "a byte order that is none": b"cnumpy\ndtype\n(S'f8'\nI0\nI1\ntR(I3\nS'O,'\nNNNI-1\nI-1\nI0\ntb.",
    }.values(),
)
def test_whatever_is_not_numbers_and_names_is_refused(data: bytes, tmp_path: Path) -> None:
    error = refused(tmp_path, data)
    assert error.reason == "unsafe_pickle"
    assert "do not unpickle it" in str(error)


def test_arrays_of_objects_are_refused(tmp_path: Path) -> None:
    value = layout()
    value["label"] = np.array([None, 1], dtype=object)
    for protocol in (0, 2, 5):
        assert refused(tmp_path, pickle.dumps(value, protocol)).reason == "unsafe_pickle"


ARRAY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n(%st" + (
    b"cnumpy\ndtype\n(S'f8'\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntbI00\nS'%s'\ntb"
)


@pytest.mark.parametrize(
    ("shape", "samples"),
    [
        (b"I3\n", b"a" * 16),
        (b"I1\n", b"a" * 7),
        (b"L4611686018427387904L\nI2\n", b"a" * 16),
        (b"I9223372036854775807\nI9223372036854775807\n", b""),
        (b"I-1\n", b"a" * 8),
        (b"I2\n", b"\\x4"),
    ],
)
def test_a_size_that_the_bytes_do_not_bear_out_is_an_error(shape: bytes, samples: bytes, tmp_path: Path) -> None:
    data = b"(dS'subject'\nS'S2'\nsS'label'\n" + ARRAY % (shape, samples) + b"sS'signal'\n(dS'chest'\n(dss."
    assert refused(tmp_path, data).reason == "bad_pickle"


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x02T\xff\xff\xff\x7fabc.",
        b"\x80\x02T\xff\xff\xff\xffabc.",
        b"\x8d" + struct.pack("<Q", 1 << 62) + b"a.",
        b"\x8a\xff" + b"\x01" * 255 + b".",
        b"I" + b"9" * 2000 + b"\n.",
        b"L" + b"9" * 30 + b"L\n.",
        b"S'abc",
        b"S'abc.",
        b"Sabc\n.",
        b"p999999999999999999999999\n.",
        b"g7\n.",
        b"t.",
        b"(s.",
        b"u.",
        b".",
        b"(.",
        b"((dS'a'\n0s.",
    ],
)
def test_a_pickle_that_is_broken_is_an_error(data: bytes, tmp_path: Path) -> None:
    assert refused(tmp_path, data).reason == "bad_pickle"


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_file_cut_anywhere_is_an_error(protocol: int, tmp_path: Path) -> None:
    data = pickle.dumps(layout(3), protocol)
    for length in range(1, len(data), 7):
        assert refused(tmp_path, data[:length]).reason in ("bad_pickle", "unsafe_pickle")


def test_a_damaged_file_is_a_typed_error_or_other_numbers(tmp_path: Path) -> None:
    data = bytearray(pickle.dumps(layout(3), 2))
    rng = np.random.default_rng(1)
    for _ in range(400):
        damaged = bytearray(data)
        for place in rng.integers(0, len(data), 3):
            damaged[place] = rng.integers(256)
        try:
            read(tmp_path, bytes(damaged))
        except RecordError as error:
            assert error.reason in ("bad_pickle", "unsafe_pickle", "bad_layout", "lfs_pointer")


def test_bombs_stay_small(tmp_path: Path) -> None:
    laughs = b"(t" + b"p0\n" + b"".join(b"(" + b"g%d\n" % i * 10 + b"tp%d\n" % (i + 1) for i in range(60)) + b"."
    assert refused(tmp_path, laughs).reason == "bad_layout"
    assert refused(tmp_path, b"(" * 1_000_000 + b".").reason == "unsafe_pickle"
    assert refused(tmp_path, b"N" * (MOST_INSTRUCTIONS + 1) + b".").reason == "unsafe_pickle"
    nested = b")" + b"\x85" * (MOST_INSTRUCTIONS - 40)
    as_shape = ARRAY.replace(b"(%st", nested) % (b"a" * 8)
    assert refused(tmp_path, as_shape + b".").reason in ("bad_pickle", "unsafe_pickle")


def test_a_dictionary_that_holds_itself_ends(tmp_path: Path) -> None:
    assert refused(tmp_path, b"(dp0\nS'signal'\ng0\nsS'chest'\ng0\ns.").reason == "bad_layout"


@pytest.mark.parametrize(
    "change", ["no_ecg", "short_ecg", "flat_ecg", "integer_ecg", "two_labels", "float_label", "no_chest", "no_subject"]
)
def test_other_arrays_than_those_of_wesad_are_named(change: str, tmp_path: Path) -> None:
    value = layout()
    chest = value["signal"]["chest"]
    match change:
        case "no_ecg":
            del chest["ECG"]
        case "short_ecg":
            chest["ECG"] = chest["ECG"][:-1]
        case "flat_ecg":
            chest["ECG"] = chest["ECG"][:, 0]
        case "integer_ecg":
            chest["ECG"] = chest["ECG"].astype(np.int16)
        case "two_labels":
            value["label"] = np.stack([value["label"]] * 2)
        case "float_label":
            value["label"] = value["label"].astype(float)
        case "no_chest":
            del value["signal"]["chest"]
        case _:
            del value["subject"]
    error = refused(tmp_path, pickle.dumps(value, 2))
    assert error.reason == "bad_layout"
    assert "download the original" in str(error)


def test_files_that_cannot_be_read_say_why(tmp_path: Path) -> None:
    assert refused(tmp_path, b"").reason == "empty"
    assert refused(tmp_path, b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n").reason == "lfs_pointer"
    (tmp_path / "link.pkl").symlink_to(tmp_path / "S2.pkl")
    os.mkfifo(tmp_path / "pipe.pkl")
    for name, reason in (("S3.pkl", "absent"), ("S2.pkl/S2.pkl", "absent"), ("link.pkl", "unsafe_path"), ("pipe.pkl", "unsafe_path")):
        with pytest.raises(RecordError) as caught:
            read_wesad_pickle(tmp_path / name)
        assert caught.value.reason == reason


@pytest.mark.skipif(SHARED is None, reason="EINTHOVEN_SHARED_DATA is not set")
def test_the_real_cut_of_s16_is_read() -> None:
    path = Path(str(SHARED)) / "wesad" / "S16" / "S16_git.pkl"
    session = read_wesad_pickle(path)
    assert (session.subject, len(session.label_T), set(session.label_T.tolist())) == ("S16", 37_100, {7})
    names = {opcode.name for opcode, _, _ in pickletools.genops(path.read_bytes())}
    assert "STACK_GLOBAL" in names and "BYTEARRAY8" in names
    assert np.abs(session.signals["ECG"]).max() < 1.5
    assert 0.9 < float(np.sqrt(sum(np.square(session.signals[f"ACC_{a}"]).mean() for a in "XYZ"))) < 1.1
    assert 34 < session.signals["TEMP"].min() <= session.signals["TEMP"].max() < 35
    steps = np.unique(session.signals["EDA"])
    assert np.diff(steps).min() == pytest.approx(25 / 65536, rel=1e-6), "one count of a 16-bit converter over 25 uS"

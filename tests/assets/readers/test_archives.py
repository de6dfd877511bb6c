"""Unpacking: what is sound arrives whole, what is not leaves the folder as it was."""

from __future__ import annotations

import gzip
import io
import stat
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest

from assets.readers.archives import ArchiveError, unpack
from tests.fuzz.encoders import tar_of, zip_of

FILES = {"a/one.txt": b"1" * 3000, "a/b/two.txt": b"", "three": bytes(range(256)) * 50}
LIMIT = 1 << 20


def sound(kind: str) -> bytes:
    if kind == "zip":
        return zip_of(FILES)
    return tar_of(list(FILES.items()), mode=kind)


def refused(folder: Path, data: bytes, *, limit_bytes: int = LIMIT) -> str:
    """The message, after making sure that nothing but the archive is there."""
    (folder / "archive").write_bytes(data)
    with pytest.raises(ArchiveError) as caught:
        unpack(folder / "archive", folder / "out", limit_bytes=limit_bytes)
    left = sorted(p.relative_to(folder) for p in folder.rglob("*"))
    assert left == [Path("archive"), Path("out")]
    return str(caught.value)


@pytest.mark.parametrize("kind", ["zip", "w", "w:gz"])
def test_sound_archives_arrive_whole(tmp_path: Path, kind: str) -> None:
    (tmp_path / "archive").write_bytes(sound(kind))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "three").write_bytes(b"old")
    (tmp_path / "out" / "mine").write_bytes(b"stays")
    found = unpack(tmp_path / "archive", tmp_path / "out", limit_bytes=LIMIT)
    assert found == sorted(tmp_path / "out" / name for name in FILES)
    assert {str(p.relative_to(tmp_path / "out")): p.read_bytes() for p in found} == FILES
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a", "mine", "three"]


def test_folders_of_an_archive_are_no_files(tmp_path: Path) -> None:
    folder = tarfile.TarInfo("a/")
    folder.type = tarfile.DIRTYPE
    (tmp_path / "archive").write_bytes(tar_of([(folder, b""), ("a/x", b"1")]))
    assert unpack(tmp_path / "archive", tmp_path / "out", limit_bytes=LIMIT) == [tmp_path / "out/a/x"]


NAMES = ["../x", "a/../../x", "/etc/x", "C:/x", "a\\..\\x", "x\ny", "d/" * 40 + "x"]


@pytest.mark.parametrize("name", NAMES)
def test_names_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    assert "leads out" in refused(tmp_path, zip_of({"good": b"1", name: b"2"}))
    assert "leads out" in refused(tmp_path, tar_of([("good", b"1"), (name, b"2")]))


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_in_a_tar_are_refused(tmp_path: Path, kind: bytes) -> None:
    info = tarfile.TarInfo("bad")
    info.type, info.linkname = kind, "good"
    assert "link" in refused(tmp_path, tar_of([("good", b"1"), (info, b"")]))


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO])
def test_links_and_devices_in_a_zip_are_refused(tmp_path: Path, kind: int) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        info = zipfile.ZipInfo("bad")
        info.external_attr = (kind | 0o644) << 16
        archive.writestr(info, "/etc/hostname")
    assert "link" in refused(tmp_path, out.getvalue())


def test_two_members_of_a_name_are_refused(tmp_path: Path) -> None:
    assert "twice" in refused(tmp_path, tar_of([("a", b"1"), ("./a", b"2")]))
    with pytest.warns(UserWarning, match="Duplicate"):
        data = io.BytesIO()
        with zipfile.ZipFile(data, "w") as archive:
            archive.writestr("a", "1")
            archive.writestr("a", "2")
    assert "twice" in refused(tmp_path, data.getvalue())


@pytest.mark.parametrize("members", [{"a": b"1", "a/b": b"2"}, {"a/b": b"2", "a": b"1"}])
def test_a_file_that_is_a_folder_too_is_refused(tmp_path: Path, members: dict[str, bytes]) -> None:
    refused(tmp_path, tar_of(list(members.items())))
    refused(tmp_path, zip_of(members))


def test_more_than_allowed_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("zip", "w", "w:gz"):
        assert "more than" in refused(tmp_path, sound(kind), limit_bytes=4000)
    monkeypatch.setattr("assets.readers.archives._KEEP_FREE", 1 << 60)
    assert "make room" in refused(tmp_path, sound("zip"))


def test_bombs_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("assets.readers.archives._NEVER_A_BOMB", 1 << 20)
    zeros = {"zeros": bytes(8 << 20)}
    assert "bomb" in refused(tmp_path, zip_of(zeros), limit_bytes=1 << 30)
    assert "bomb" in refused(tmp_path, tar_of(list(zeros.items()), mode="w:gz"), limit_bytes=1 << 30)
    assert "header or padding" in refused(tmp_path, gzip.compress(bytes(64 << 20)), limit_bytes=LIMIT)


def test_a_header_longer_than_any_is_refused(tmp_path: Path) -> None:
    info = tarfile.TarInfo("pax")
    info.type = tarfile.XHDTYPE
    info.size = 1 << 33
    assert "header" in refused(tmp_path, gzip.compress(info.tobuf() + bytes(1 << 20)))


def test_a_zip_that_states_the_wrong_length_is_refused(tmp_path: Path) -> None:
    data = bytearray(zip_of({"x": b"1" * 1000}))
    at = data.index(b"PK\1\2")
    struct.pack_into("<I", data, at + 24, 100)
    assert refused(tmp_path, bytes(data))


@pytest.mark.parametrize("kind", ["zip", "w", "w:gz"])
def test_damage_is_noticed(tmp_path: Path, kind: str) -> None:
    data = sound(kind)
    assert "again" in refused(tmp_path, data[: len(data) * 2 // 3])
    if kind != "w":
        at = data.index(b"\x1f\x8b") + 40 if kind == "w:gz" else data.index(b"a/one.txt") + 12
        assert "again" in refused(tmp_path, data[:at] + bytes([data[at] ^ 255]) + data[at + 1 :])


@pytest.mark.parametrize("data", [b"", b"PK\3\4", b"no archive", b"\x1f\x8b\x08\0", b"PK\5\6" + bytes(18)])
def test_what_is_no_archive_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "archive").write_bytes(data)
    if data.startswith(b"PK\5\6"):
        assert unpack(tmp_path / "archive", tmp_path / "out", limit_bytes=LIMIT) == []
    else:
        refused(tmp_path, data)


def test_an_encrypted_or_oddly_packed_zip_is_refused(tmp_path: Path) -> None:
    data = bytearray(zip_of({"x": b"1"}, method=zipfile.ZIP_STORED))
    struct.pack_into("<H", data, data.index(b"PK\1\2") + 8, 1)
    assert "encrypted" in refused(tmp_path, bytes(data))
    assert "method" in refused(tmp_path, zip_of({"x": b"1" * 100}, method=zipfile.ZIP_LZMA))


def test_nothing_is_written_through_a_link_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "archive").write_bytes(sound("zip"))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ArchiveError, match="is a link"):
        unpack(tmp_path / "archive", tmp_path / "out", limit_bytes=LIMIT)
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_missing_archive_is_a_typed_error(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="cannot be unpacked"):
        unpack(tmp_path / "none.zip", tmp_path / "out", limit_bytes=LIMIT)

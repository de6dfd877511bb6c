"""Downloads over a local HTTP server that publishes a tree: what is fetched, what is skipped, what is refused."""

from __future__ import annotations

import hashlib
import shutil
import threading
import zipfile
from collections.abc import Iterator, Sequence
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from assets import download as module
from assets.access import Access
from assets.dataset import Dataset, Download, RemoteFile, Source, get_dataset
from assets.download import Progress, Wish, choose_transport, download
from assets.download_file import Patience
from assets.download_list import Verified, read_list
from assets.download_transport import DownloadError, RefusedError


class Quiet(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        return

    def do_GET(self) -> None:
        self.server.asked.append(self.path)  # type: ignore[attr-defined]
        super().do_GET()


class Published:
    """A folder of files, its checksum list, and a server that publishes both."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
        self.server.asked = self.asked = []  # type: ignore[attr-defined]
        self.url = f"http://127.0.0.1:{self.server.server_port}/"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def put(self, path: str, data: bytes) -> str:
        """Publish a file; returns its SHA-256."""
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        return hashlib.sha256(data).hexdigest()

    def list(self) -> None:
        files = (p for p in sorted(self.folder.rglob("*")) if p.is_file() and p.name != "SHA256SUMS.txt")
        lines = [f"{hashlib.sha256(p.read_bytes()).hexdigest()} {p.relative_to(self.folder).as_posix()}\n" for p in files]
        (self.folder / "SHA256SUMS.txt").write_text("".join(lines))


@pytest.fixture
def published(tmp_path: Path) -> Iterator[Published]:
    found = Published(tmp_path / "published")
    for path in ("records.csv", "waves/p1/1.dat", "waves/p1/1.hea", "waves/p2/2.dat", "with space/ä%20+.txt"):
        found.put(path, path.encode() * 50)
    found.list()
    yield found
    found.server.shutdown()
    found.server.server_close()


def dataset(how: Download, **values: Any) -> type[Dataset]:
    source = Source("Tiny", "1.0", "https://example.org/tiny", "CC0", "Free.", "Nobody.", how)
    return type("Tiny", (Dataset,), {"name": "tiny", "access": Access.OPEN, "source": source, **values})


def run(published: Published, tmp_path: Path, how: Download | None = None, **wish: Any) -> Progress:
    asked = Wish(workers=4, patience=Patience(2, 0.01), **wish)
    return download(dataset(how or Download(https=published.url)), tmp_path / "data", tmp_path / "cache", asked, lambda _: None)


def held(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_everything_lands_where_it_lies_at_the_publisher_and_a_second_run_reads_nothing(
    published: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(published, tmp_path)
    assert held(tmp_path / "data") == held(published.folder)
    assert (first.n_files, first.n_fetched, first.n_kept) == (5, 5, 0)
    published.asked.clear()
    read = []
    monkeypatch.setattr(module, "hash_file", lambda path, checksum, do=module.hash_file: read.append(path.name) or do(path, checksum))
    second = run(published, tmp_path)
    assert (second.n_files, second.n_fetched, second.n_kept, second.n_read) == (5, 0, 5, 0)
    assert published.asked == ["/SHA256SUMS.txt"]
    assert set(read) == {"checksums.txt", "SHA256SUMS.txt"}


def test_a_part_of_it(published: Published, tmp_path: Path) -> None:
    run(published, tmp_path, only=("*.csv", "waves/p1/*"))
    assert set(held(tmp_path / "data")) == {"SHA256SUMS.txt", "records.csv", "waves/p1/1.dat", "waves/p1/1.hea"}
    assert run(published, tmp_path).n_fetched == 2
    with pytest.raises(DownloadError, match=r"no file of Tiny fits record100/\*; patterns look like"):
        run(published, tmp_path, only=("record100/*",))


def test_what_another_program_downloaded_is_compared_not_fetched(published: Published, tmp_path: Path) -> None:
    shutil.copytree(published.folder / "waves", tmp_path / "data" / "waves")
    done = run(published, tmp_path)
    assert (done.n_fetched, done.n_kept, done.n_read) == (2, 3, 3)


def test_a_file_with_another_checksum_is_the_users(published: Published, tmp_path: Path) -> None:
    mine = tmp_path / "data" / "records.csv"
    mine.parent.mkdir()
    mine.write_text("mine")
    with pytest.raises(
        DownloadError, match=r"records.csv is there with another checksum .* left as it is.*--replace.*4 of 5 files are there"
    ):
        run(published, tmp_path)
    assert mine.read_text() == "mine"
    run(published, tmp_path, replace=True)
    assert held(tmp_path / "data") == held(published.folder)


def test_a_file_that_changed_after_it_was_verified_is_found(published: Published, tmp_path: Path) -> None:
    run(published, tmp_path)
    mine = tmp_path / "data" / "records.csv"
    mine.write_bytes(bytes(len(mine.read_bytes())))
    with pytest.raises(DownloadError, match=r"records.csv is there with another checksum"):
        run(published, tmp_path)


def test_another_list_than_the_files_came_with(published: Published, tmp_path: Path) -> None:
    run(published, tmp_path)
    published.put("records.csv", b"corrected")
    published.list()
    with pytest.raises(DownloadError, match=r"SHA256SUMS.txt is not the list that .* publishes now.*--replace"):
        run(published, tmp_path)
    run(published, tmp_path, replace=True)
    assert held(tmp_path / "data") == held(published.folder)


SUM = "ab" * 32
BAD_LISTS = {
    "absolute": (f"{SUM} /etc/passwd\n", "line 2 .* names '/etc/passwd', which is no path below"),
    "out of the folder": (f"{SUM}  waves/../../x\n", "no path below"),
    "only dots": (f"{SUM} ..\n", "no path below"),
    "empty part": (f"{SUM} a//b\n", "no path below"),
    "backslash": (f"{SUM} a\\b\n", "no path below"),
    "control character": (f"{SUM} a\tb\n", "no path below"),
    "no utf-8": (f"{SUM} a\udcff\n", "line 2 .* is not '<sha256> <path>'"),
    "md5": (f"{'ab' * 16} a\n", "line 2 .* is not '<sha256> <path>'"),
    "no path": (f"{SUM}\n", "is not '<sha256> <path>'"),
    "endless line": (f"{SUM} {'a' * 9000}\n", "is not '<sha256> <path>'"),
    "web page": ("<!DOCTYPE html>\n", r"is not '<sha256> <path>' \(the server sent a web page\)"),
    "twice": (f"{SUM} a\n{'cd' * 32} a\n", "names a file twice"),
}


@pytest.mark.parametrize(("line", "said"), BAD_LISTS.values(), ids=BAD_LISTS)
def test_a_list_that_cannot_be_trusted_downloads_nothing(line: str, said: str, published: Published, tmp_path: Path) -> None:
    path = published.folder / "SHA256SUMS.txt"
    path.write_bytes((path.read_text().splitlines()[0] + "\n" + line).encode(errors="surrogateescape"))
    with pytest.raises(DownloadError, match=said):
        run(published, tmp_path)
    assert set(held(tmp_path / "data")) <= {"SHA256SUMS.txt"}


def test_lists_as_physionet_and_as_sha256sum_write_them(tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_text(f"{SUM} a/b c.dat\n{SUM}  d\r\n{SUM.upper()} *e")
    assert [(i.path, i.checksum) for i in read_list(path)] == [(p, f"sha256:{SUM}") for p in ("a/b c.dat", "d", "e")]


def test_a_disk_without_room_for_all_of_it(published: Published, tmp_path: Path) -> None:
    how = Download(https=published.url, n_bytes=10**15)
    with pytest.raises(
        RefusedError, match=r"Tiny needs about 1000000.0 GB more and the disk .*choose another --folder, or a part of it with --only"
    ):
        run(published, tmp_path, how)
    assert run(published, tmp_path, how, only=("*.csv",)).n_fetched == 1


def test_faults_without_end_end_the_download(published: Published, tmp_path: Path) -> None:
    path = published.folder / "SHA256SUMS.txt"
    path.write_text("".join(f"{SUM} missing/{i}\n" for i in range(500)))
    with pytest.raises(DownloadError, match="files could not be had, so the download was ended"):
        run(published, tmp_path)
    assert len(published.asked) < 100


def archive(published: Published, name: str, members: dict[str, bytes]) -> RemoteFile:
    path = published.folder / name
    with zipfile.ZipFile(path, "w") as out:
        for member, data in members.items():
            out.writestr(member, data)
    return RemoteFile(name, published.url + name, f"md5:{hashlib.md5(path.read_bytes()).hexdigest()}", unpack=True)


def single(published: Published, *files: RemoteFile) -> Download:
    return Download(checksums="", files=(RemoteFile("records.csv", f"{published.url}records.csv"), *files))


def test_single_files_and_archives(published: Published, tmp_path: Path) -> None:
    how = single(published, archive(published, "part1.zip", {"h5/1.bin": b"one", "readme": b"read me"}))
    done = run(published, tmp_path, how)
    assert set(held(tmp_path / "data")) == {"records.csv", "h5/1.bin", "readme"}, "the archive is not kept beside what it held"
    assert (done.n_fetched, done.n_unchecked) == (2, 1)
    published.asked.clear()
    assert run(published, tmp_path, how).n_kept == 2
    assert published.asked == []
    (tmp_path / "data" / "readme").unlink()
    run(published, tmp_path, how)
    assert (tmp_path / "data" / "readme").exists()


def test_an_archive_that_the_user_has_is_used_and_kept(published: Published, tmp_path: Path) -> None:
    how = single(published, archive(published, "part1.zip", {"1.bin": b"one"}))
    (tmp_path / "data").mkdir()
    shutil.copy(published.folder / "part1.zip", tmp_path / "data" / "part1.zip")
    run(published, tmp_path, how)
    assert set(held(tmp_path / "data")) == {"records.csv", "1.bin", "part1.zip"}
    assert "/part1.zip" not in published.asked


def test_an_archive_does_not_replace_files(published: Published, tmp_path: Path) -> None:
    how = single(published, archive(published, "part1.zip", {"1.bin": b"one"}))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "1.bin").write_bytes(b"mine")
    with pytest.raises(DownloadError, match=r"1.bin is there and differs from the one in part1.zip"):
        run(published, tmp_path, how)
    assert (tmp_path / "data" / "1.bin").read_bytes() == b"mine"
    published.asked.clear()
    run(published, tmp_path, how, replace=True)
    assert (tmp_path / "data" / "1.bin").read_bytes() == b"one"
    assert "/part1.zip" not in published.asked, "the archive was fetched twice"


def test_an_archive_that_is_none(published: Published, tmp_path: Path) -> None:
    published.put("part1.zip", b"<html>try later</html>" * 100)
    how = single(published, RemoteFile("part1.zip", f"{published.url}part1.zip", unpack=True))
    with pytest.raises(DownloadError, match=r"part1.zip.* is damaged"):
        run(published, tmp_path, how)
    assert set(held(tmp_path / "data")) == {"records.csv", ".part1.zip.bad"}


MANUAL = Download(https="https://example.org/", credentials="manual", directions="Ask the hospital.")
CHOICES: Sequence[tuple[Download, str, str]] = [
    (Download(), "", "cannot be downloaded by a program. Free. See https://example.org/tiny"),
    (MANUAL, "", "cannot be downloaded by a program. Free. Ask the hospital. See https://example.org/tiny"),
    (Download(https="https://example.org/"), "s3", "declares no s3 source"),
    (Download(https="https://example.org/"), "ftp://example.org/", "is neither s3, https nor an address"),
    (Download(https="https://example.org/"), "http://example.org/", "is not an https:// address"),
    (Download(https="https://example.org/"), "https://me:secret@example.org/", "holds a user name"),
    (Download(https="https://example.org/"), "s3:///x", "is no address of a bucket"),
]


@pytest.mark.parametrize(("how", "source", "said"), CHOICES)
def test_what_cannot_be_downloaded_says_what_to_do(how: Download, source: str, said: str) -> None:
    with pytest.raises(DownloadError) as caught:
        choose_transport(dataset(how), Wish(source=source))
    assert said in str(caught.value)
    assert "secret" not in str(caught.value)


def test_sources() -> None:
    both = dataset(Download(s3="s3://open/tiny/1.0/", https="https://example.org/tiny/"))
    assert choose_transport(both, Wish()).name == "s3://open/tiny/1.0/"
    assert choose_transport(both, Wish(source="https")).name == "https://example.org/tiny/"
    assert choose_transport(both, Wish(source="https://mirror.example.org/t")).name == "https://mirror.example.org/t/"
    point = "s3://arn:aws:s3:us-east-1:123456789012:accesspoint/tiny-v1/tiny/1.0"
    assert choose_transport(both, Wish(source=point)).name == f"{point}/"
    with pytest.raises(DownloadError, match="is simulated"):
        choose_transport(get_dataset("synthetic"), Wish())


def test_every_registered_dataset_declares_a_download_that_can_be_begun_or_says_how() -> None:
    from assets.dataset import list_datasets

    for name in list_datasets():
        found = get_dataset(name)
        how = found.source.download
        if how.credentials == "physionet":
            assert how.https.startswith("https://physionet.org/files/")
            assert how.directions or found.source.terms
            continue
        try:
            choose_transport(found, Wish())
        except DownloadError as error:
            assert found.simulated or found.source.homepage in str(error), error
        for file in how.files:
            assert file.url.startswith("https://")


def test_a_torn_table_of_what_was_verified_is_begun_again(tmp_path: Path) -> None:
    path = tmp_path / "verified.sqlite"
    path.write_bytes(b"no database" * 100)
    (tmp_path / "x").touch()
    status = (tmp_path / "x").stat()
    with Verified(path) as verified:
        assert not verified.holds("x", "sha256:0", status)
        verified.add("x", "sha256:0", status)
    with Verified(path) as verified:
        assert verified.holds("x", "sha256:0", status)
        assert not verified.holds("x", "sha256:1", status)


def test_items_of_a_mirror_are_asked_for_by_path(published: Published, tmp_path: Path) -> None:
    how = Download(checksums="", files=(RemoteFile("records.csv", "https://example.org/somewhere/records.csv?download=1"),))
    assert run(published, tmp_path, how, source=published.url).n_fetched == 1
    assert published.asked == ["/records.csv"]

"""What goes wrong between a bucket and a disk while a dataset is downloaded: a real S3 protocol server behind a proxy that
misbehaves on demand. Nothing wrong ever stands in a file's place, nothing is fetched twice, and what to do is said."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import numpy as np
import pytest

from assets import download_s3
from assets.access import Access
from assets.dataset import Dataset, Download, Source
from assets.download import Progress, Wish, download
from assets.download_file import Patience
from assets.download_transport import DownloadError, RefusedError

PREFIX = "tiny/1.0/"
BIG = "waves/big.dat"


class Tiny(Dataset):
    """A published dataset of four files."""

    name = "tiny"
    access = Access.OPEN
    source = Source("Tiny", "1.0", "https://example.org/tiny", "CC0", "Free.", "Nobody.", Download(s3=f"s3://open/{PREFIX}"))


class Restricted(Tiny):
    """The same for credentialed users."""

    source = Source(
        "Tiny", "1.0", "https://example.org/tiny", "DUA", "Sign.", "Nobody.",
        Download(s3=f"s3://open/{PREFIX}", credentials="physionet", directions="Sign the agreement."),
    )  # fmt: skip


def contents() -> dict[str, bytes]:
    """Path and bytes of the published files; one is large enough to be fetched in parts."""
    rng = np.random.default_rng(5)
    sizes = {"a.csv": 1000, "b.csv": 70_000, "deep/er/c.hea": 300, BIG: 3_000_000}
    return {path: rng.bytes(size) for path, size in sizes.items()}


@dataclass
class Fault:
    """What the proxy does to one answer: another status, or a body that is changed or cut after some bytes."""

    status: int = 0
    code: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    after: int = -1
    then: str = ""
    """After so many bytes: "cut" the connection, "hang", or "flip" a bit and go on."""


@dataclass
class Asked:
    """A request that the proxy has seen."""

    path: str
    range: str
    status: int = 0
    n_sent: int = 0


class Proxy(ThreadingHTTPServer):
    """Passes requests on to the S3 server, except where `fault(path, number of earlier requests for it)` says otherwise."""

    daemon_threads = True

    def __init__(self, target: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.target = target
        self.fault: Callable[[str, int], Fault | None] = lambda path, n: None
        self.asked: list[Asked] = []
        self.released = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def of(self, path: str) -> list[Asked]:
        return [a for a in self.asked if a.path == path]

    def handle_error(self, *_: Any) -> None:
        """Clients that go away in the middle are what is tested."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def log_message(self, *_: Any) -> None:
        return

    def do_GET(self) -> None:
        path = self.path.removeprefix(f"/open/{PREFIX}")
        asked = Asked(path, self.headers.get("Range", ""))
        fault = self.server.fault(path, len(self.server.of(path))) or Fault()
        self.server.asked.append(asked)
        if fault.status:
            text = f"<?xml version='1.0'?><Error><Code>{fault.code}</Code><Message>no</Message></Error>".encode()
            self._begin(fault.status, {**fault.headers, "Content-Length": str(len(text)), "Content-Type": "application/xml"})
            self.wfile.write(text)
            return
        upstream = http.client.HTTPConnection(self.server.target)
        upstream.request("GET", self.path, headers={k: v for k, v in self.headers.items() if k.lower() != "host"})
        answer = upstream.getresponse()
        body, asked.status = answer.read(), answer.status
        self._begin(answer.status, {k: v for k, v in answer.getheaders() if k.lower() in ("etag", "content-length", "content-range")})
        if fault.then == "flip":
            body = body[: fault.after] + bytes([body[fault.after] ^ 1]) + body[fault.after + 1 :]
        asked.n_sent = len(body) if fault.then in ("", "flip") else fault.after
        self.wfile.write(body[: asked.n_sent])
        self.wfile.flush()
        if fault.then == "hang":
            self.server.released.wait(20)
        if fault.then in ("hang", "cut"):
            self.close_connection = True

    def _begin(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """A real S3 protocol server with the published files, open to everybody."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    client = boto3.client(
        "s3", endpoint_url=f"http://{host}:{port}", aws_access_key_id="test", aws_secret_access_key="test", region_name="us-east-1"
    )
    client.create_bucket(Bucket="open", ACL="public-read")
    files = contents()
    sums = "".join(f"{hashlib.sha256(data).hexdigest()} {path}\n" for path, data in files.items())
    for path, data in {**files, "SHA256SUMS.txt": sums.encode()}.items():
        client.put_object(Bucket="open", Key=PREFIX + path, Body=data, ACL="public-read")
    yield f"{host}:{port}"
    server.stop()


@pytest.fixture
def proxy(s3: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    for name in [n for n in os.environ if n.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, "/nonexistent")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    server = Proxy(s3)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    yield server
    server.released.set()
    server.shutdown()
    server.server_close()


def run(tmp_path: Path, dataset: type[Dataset] = Tiny, folder: Path | None = None, tries: int = 3, **wish: Any) -> Progress:
    asked = Wish(workers=2, patience=Patience(tries, first_wait_s=0.01), **wish)
    return download(dataset, folder or tmp_path / "data", tmp_path / "cache", asked, lambda _: None)


def held(folder: Path) -> dict[str, bytes]:
    """What a user sees: files that are not hidden."""
    files = (p for p in sorted(folder.rglob("*")) if p.is_file() and not p.name.startswith("."))
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files if p.name != "SHA256SUMS.txt"}


def leftovers(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.rglob(".*"))


def once(fault: Fault, path: str = BIG) -> Callable[[str, int], Fault | None]:
    return lambda asked, n: fault if asked == path and n == 0 else None


def always(fault: Fault, path: str = BIG) -> Callable[[str, int], Fault | None]:
    return lambda asked, n: fault if asked == path else None


TRANSIENT = {
    "500": Fault(500, "InternalError"),
    "503 SlowDown": Fault(503, "SlowDown"),
    "429": Fault(429, "TooManyRequests"),
    "cut before the body": Fault(after=0, then="cut"),
    "cut in the body": Fault(after=2_000_000, then="cut"),
    "hang": Fault(after=2_000_000, then="hang"),
}


@pytest.mark.parametrize("fault", TRANSIENT.values(), ids=TRANSIENT)
def test_what_passes_is_tried_again_from_where_it_stopped(
    fault: Fault, tmp_path: Path, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download_s3, "READ_TIMEOUT_S", 0.5)
    proxy.fault = once(fault)
    done = run(tmp_path)
    assert held(tmp_path / "data") == contents()
    assert leftovers(tmp_path / "data") == []
    assert done.n_fetched == 4
    first, second = proxy.of(BIG)
    assert first.range == ""
    if fault.after > 0:  # everything that came before it stopped was kept, and nothing of it was asked for again
        start = int(second.range.removeprefix("bytes=").removesuffix("-"))
        assert 0 < start <= fault.after
        assert second.n_sent == 3_000_000 - start
    else:
        assert second.range == ""


def test_a_list_that_is_cut_short_is_not_taken_for_the_whole(tmp_path: Path, proxy: Proxy) -> None:
    proxy.fault = once(Fault(after=150, then="cut"), "SHA256SUMS.txt")
    assert run(tmp_path).n_files == 4
    proxy.fault = always(Fault(after=150, then="cut"), "SHA256SUMS.txt")
    with pytest.raises(DownloadError, match=r"SHA256SUMS.txt: the .* given up after 3 tries"):
        run(tmp_path, folder=tmp_path / "other")
    assert held(tmp_path / "other") == {}


def test_a_server_that_stays_busy(tmp_path: Path, proxy: Proxy) -> None:
    proxy.fault = always(Fault(503, "SlowDown"))
    with pytest.raises(
        DownloadError, match=r"big.dat: S3 answered 503 SlowDown; given up after 3 tries, run the same command later.*3 of 4"
    ):
        run(tmp_path)
    assert set(held(tmp_path / "data")) == set(contents()) - {BIG}, "the others are there"
    assert len(proxy.of(BIG)) == 3


def test_bytes_altered_on_the_way_once(tmp_path: Path, proxy: Proxy) -> None:
    proxy.fault = once(Fault(after=1_500_000, then="flip"))
    run(tmp_path)
    assert held(tmp_path / "data") == contents()
    assert [a.range for a in proxy.of(BIG)] == ["", ""], "fetched again from its beginning"


def test_bytes_altered_on_the_way_always(tmp_path: Path, proxy: Proxy) -> None:
    proxy.fault = always(Fault(after=10, then="flip"), "b.csv")
    with pytest.raises(DownloadError, match=r"b.csv came twice with a checksum other than the published one.*\.b\.csv\.bad"):
        run(tmp_path)
    assert set(held(tmp_path / "data")) == set(contents()) - {"b.csv"}
    assert leftovers(tmp_path / "data") == [".b.csv.bad"]
    proxy.fault = lambda path, n: None
    assert run(tmp_path).n_fetched == 1
    assert leftovers(tmp_path / "data") == []


REFUSED = {
    "expired": (Fault(400, "ExpiredToken"), "credentials of this machine have expired; log in again"),
    "unknown": (Fault(403, "InvalidAccessKeyId"), "does not know the credentials"),
    "elsewhere": (
        Fault(301, "PermanentRedirect", {"x-amz-bucket-region": "eu-west-3"}),
        "lies in region eu-west-3; set AWS_REGION=eu-west-3",
    ),
    "no bucket": (Fault(404, "NoSuchBucket"), "there is no bucket open"),
}


@pytest.mark.parametrize(("fault", "said"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_pass_ends_at_once_and_says_what_to_do(fault: Fault, said: str, tmp_path: Path, proxy: Proxy) -> None:
    proxy.fault = lambda path, n: fault if path != "SHA256SUMS.txt" else None
    with pytest.raises(RefusedError, match=said):
        run(tmp_path)
    assert held(tmp_path / "data") == {}
    assert all(len(proxy.of(path)) <= 2 for path in contents()), "it was tried again"


@pytest.mark.parametrize(
    ("status", "code", "said"), [(403, "AccessDenied", "does not let you have it"), (404, "NoSuchKey", "is not there")]
)
def test_one_file_that_cannot_be_had_does_not_hold_up_the_others(status: int, code: str, said: str, tmp_path: Path, proxy: Proxy) -> None:
    proxy.fault = always(Fault(status, code), "a.csv")
    with pytest.raises(DownloadError, match=rf"a.csv.* {said}.*3 of 4 files are there"):
        run(tmp_path)
    assert set(held(tmp_path / "data")) == set(contents()) - {"a.csv"}
    assert len(proxy.of("a.csv")) == 1


def test_restricted_files_need_credentials(tmp_path: Path, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RefusedError, match=r"needs AWS credentials, and there are none that work.*Sign the agreement"):
        run(tmp_path, Restricted)
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(RefusedError, match=r"AWS is not set up.*nobody.*Sign the agreement"):
        run(tmp_path, Restricted)
    assert proxy.asked == []


STARTED = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell in the background takes away
from pathlib import Path
from assets.access import Access
from assets.dataset import Dataset, Download, Source
from assets.download import Wish, download
class Tiny(Dataset):
    name = "tiny"
    access = Access.OPEN
    source = Source("Tiny", "1.0", "https://example.org/tiny", "CC0", "Free.", "Nobody.", Download(s3="s3://open/tiny/1.0/"))
try:
    download(Tiny, Path(sys.argv[1]), Path(sys.argv[2]), Wish(workers=2), lambda _: None)
except Exception as error:
    print(f"{type(error).__name__}: {error}")
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_ended_in_the_middle_it_fetches_only_what_is_missing(how: signal.Signals, tmp_path: Path, proxy: Proxy) -> None:
    proxy.fault = always(Fault(after=2_000_000, then="hang"))
    folder = tmp_path / "data"
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", STARTED, str(folder), str(tmp_path / "cache")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    part = folder / "waves" / ".big.dat.part"
    deadline = time.monotonic() + 30
    while not (part.exists() and part.stat().st_size > 1_500_000 and len(held(folder)) == 3):
        assert process.poll() is None and time.monotonic() < deadline, process.stdout.read() if process.stdout else ""
        time.sleep(0.02)
    process.send_signal(how)
    if how is signal.SIGINT:
        time.sleep(0.2)
        proxy.released.set()  # the connection that hangs breaks, else it would be waited for until its time is up
    said, _ = process.communicate(timeout=20)
    if how is signal.SIGINT:
        assert said.strip() == "DownloadError: interrupted; what is complete is kept, run the same command to go on"
    assert set(held(folder)) == set(contents()) - {BIG}, "a file that is not whole stands in its place"
    n_there = part.stat().st_size

    proxy.fault = lambda path, n: None
    proxy.asked.clear()
    done = run(tmp_path)
    assert held(folder) == contents()
    assert leftovers(folder) == []
    assert [(a.path, a.range) for a in proxy.asked] == [("SHA256SUMS.txt", ""), (BIG, f"bytes={n_there}-")]
    assert (done.n_kept, done.n_fetched, proxy.of(BIG)[0].n_sent) == (3, 1, 3_000_000 - n_there)


def test_a_part_of_another_version_is_not_glued_to_this_one(tmp_path: Path, proxy: Proxy) -> None:
    proxy.fault = lambda path, n: (
        Fault(after=2_000_000, then="cut") if path == BIG and n == 0 else Fault(503, "SlowDown") if path == BIG else None
    )
    with pytest.raises(DownloadError):
        run(tmp_path)
    part = tmp_path / "data" / "waves" / ".big.dat.part"
    note = part.with_name(".big.dat.part.json")
    part.write_bytes(bytes(len(part.read_bytes())))
    note.write_text(json.dumps({**json.loads(note.read_text()), "etag": '"of another version"'}))
    proxy.fault = lambda path, n: None
    proxy.asked.clear()
    run(tmp_path)
    assert held(tmp_path / "data") == contents()
    assert [(a.range != "", a.status) for a in proxy.of(BIG)] == [(True, 412), (False, 200)], (
        "asked for the rest of that version, then for the whole of this one"
    )


def test_a_part_that_was_damaged_on_disk_is_fetched_again(tmp_path: Path, proxy: Proxy) -> None:
    proxy.fault = lambda path, n: (
        Fault(after=2_000_000, then="cut") if path == BIG and n == 0 else Fault(503, "SlowDown") if path == BIG else None
    )
    with pytest.raises(DownloadError):
        run(tmp_path)
    part = tmp_path / "data" / "waves" / ".big.dat.part"
    part.write_bytes(bytes(len(part.read_bytes())))
    proxy.fault = lambda path, n: None
    run(tmp_path)
    assert held(tmp_path / "data") == contents()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with 1 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True, check=False)
    if mounted.returncode != 0:
        pytest.skip("a small file system can only be mounted by root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_disk_that_fills_up(tmp_path: Path, small_disk: Path, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        RefusedError, match=r"the disk that holds .*waves is full: big.dat needs 3,000,000 bytes more, .* are free; free some space"
    ):
        run(tmp_path, folder=small_disk / "data")
    assert held(small_disk / "data").items() <= contents().items()
    assert leftovers(small_disk / "data") == []
    monkeypatch.setattr("assets.download_file._require_room", lambda *_: None)  # another program takes the room meanwhile
    with pytest.raises(RefusedError, match=r"the disk that holds .* is full; free some space and run the same command to go on"):
        run(tmp_path, folder=small_disk / "data")
    assert held(small_disk / "data").items() <= contents().items()
    assert run(tmp_path, folder=small_disk / "data", only=("*.csv",)).n_files == 2


def test_a_link_in_the_folder_is_not_followed(tmp_path: Path, proxy: Proxy) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "deep").symlink_to(outside)
    (tmp_path / "data" / "a.csv").symlink_to(outside / "a.csv")
    (tmp_path / "data" / ".b.csv.part").symlink_to(outside / "b.csv")
    with pytest.raises(DownloadError) as caught:
        run(tmp_path)
    assert str(caught.value).count("is a link; downloads go into folders and files of their own only") == 2
    assert "b.csv cannot be written" in str(caught.value)
    assert list(outside.iterdir()) == []


def test_a_second_download_at_the_same_time_is_refused(tmp_path: Path, proxy: Proxy) -> None:
    proxy.fault = always(Fault(after=1000, then="hang"))
    first = threading.Thread(target=run, args=(tmp_path,))
    first.start()
    while not proxy.of(BIG):
        time.sleep(0.01)
    with pytest.raises(DownloadError, match="another download of tiny is running"):
        run(tmp_path)
    proxy.fault = lambda path, n: None
    proxy.released.set()
    first.join()
    assert held(tmp_path / "data") == contents()

"""HTTPS: ranges, versions, redirects, certificates, and PhysioNet's password through wget, against a local server."""

from __future__ import annotations

import base64
import datetime
import ipaddress
import os
import shutil
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from assets import download_https
from assets.download_file import Fetcher, Item, Patience, Received
from assets.download_https import HttpsTransport, WgetTransport, find_credentials
from assets.download_transport import DownloadError, RefusedError, TransientError, Transport

DATA = np.random.default_rng(3).bytes(3_000_000)
HALF = 1_500_000
needs_wget = pytest.mark.skipif(shutil.which("wget") is None, reason="wget is not installed")


class Handler(BaseHTTPRequestHandler):
    """Serves DATA at every path, with what the server's attributes say."""

    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, *_: Any) -> None:
        return

    def do_GET(self) -> None:
        server, wanted = self.server, self.headers.get("Range", "")
        server.asked.append(dict(self.headers) | {"path": self.path})
        if server.redirect:
            return self._answer(302, {"Location": server.redirect.pop(0)}, b"")
        if server.password and self.headers.get("Authorization") != "Basic " + base64.b64encode(server.password.encode()).decode():
            return self._answer(401, {"WWW-Authenticate": 'Basic realm="PhysioNet"'}, b"who are you?")
        if server.status:
            return self._answer(server.status.pop(0), {"Retry-After": "0"}, b"no")
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and server.ranges else 0
        if self.headers.get("If-Range", server.etag) != server.etag:
            start = 0
        if start >= len(server.data):
            return self._answer(416, {"Content-Range": f"bytes */{len(server.data)}"}, b"")
        headers = {"ETag": server.etag} if server.etag else {}
        if start:
            headers["Content-Range"] = f"bytes {start + server.shift}-{len(server.data) - 1}/{len(server.data)}"
        return self._answer(206 if start else 200, headers, server.data[start:], cut=server.cuts.pop(0) if server.cuts else None)

    def _answer(self, status: int, headers: dict[str, str], body: bytes, cut: int | None = None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[:cut])
        self.close_connection = cut is not None


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[dict[str, str]] = []
        self.data, self.etag, self.ranges, self.password = DATA, '"v1"', True, ""
        self.shift = 0
        self.cuts: list[int] = []
        self.status: list[int] = []
        self.redirect: list[str] = []
        self.base = f"http://127.0.0.1:{self.server_port}/"

    def handle_error(self, *_: Any) -> None:
        """Clients go away in the middle."""


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server()
    threading.Thread(target=found.serve_forever, args=(0.05,), daemon=True).start()
    yield found
    found.shutdown()
    found.server_close()


@pytest.fixture(autouse=True)
def _credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("NETRC", "PHYSIONET_USERNAME", "PHYSIONET_PASSWORD", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)


def https(server: Server) -> HttpsTransport:
    transport = HttpsTransport(server.base, workers=2)
    transport.connect()
    return transport


def wget(server: Server) -> WgetTransport:
    transport = WgetTransport(server.base, directions="Sign the agreement.")
    transport.connect()
    return transport


def fetch(transport: Transport, target: Path, checksum: str = "", tries: int = 2) -> Received:
    received = Received()
    Fetcher(transport, received, threading.Event(), Patience(tries, 0.01)).fetch(Item(target.name, target.name, checksum), target)
    return received


@pytest.fixture(params=["https", pytest.param("wget", marks=needs_wget)])
def transport(request: pytest.FixtureRequest, server: Server, monkeypatch: pytest.MonkeyPatch) -> Transport:
    """Both ways over HTTP."""
    if request.param == "https":
        return https(server)
    server.password = "me:pass word#=1"
    monkeypatch.setenv("PHYSIONET_USERNAME", "me")
    monkeypatch.setenv("PHYSIONET_PASSWORD", "pass word#=1")
    return wget(server)


def test_it_goes_on_where_it_was_cut(transport: Transport, server: Server, tmp_path: Path) -> None:
    server.cuts = [HALF]
    received = fetch(transport, tmp_path / "a b.dat")
    assert (tmp_path / "a b.dat").read_bytes() == DATA
    assert received.n_bytes == len(DATA)
    assert next(a["path"] for a in server.asked if "Range" not in a) == "/a%20b.dat"
    assert {a["Range"] for a in server.asked if "Range" in a} == {f"bytes={HALF}-"}
    assert {a["If-Range"] for a in server.asked if "Range" in a} == {'"v1"'}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a b.dat"]


def interrupted(transport: Transport, server: Server, target: Path) -> None:
    server.cuts, server.status = [HALF], []
    with pytest.raises(DownloadError, match="given up after 1 tries"):
        fetch(transport, target, tries=1)
    assert not target.exists()
    server.asked.clear()


def test_a_file_that_changed_meanwhile_is_begun_again(transport: Transport, server: Server, tmp_path: Path) -> None:
    interrupted(transport, server, tmp_path / "x")
    server.data, server.etag = DATA[::-1], '"v2"'
    fetch(transport, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == DATA[::-1]


def test_a_server_without_ranges(transport: Transport, server: Server, tmp_path: Path) -> None:
    interrupted(transport, server, tmp_path / "x")
    server.ranges = False
    fetch(transport, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == DATA


def test_a_server_that_sends_another_part_than_asked_for(server: Server, tmp_path: Path) -> None:
    interrupted(https(server), server, tmp_path / "x")
    server.shift = 7
    fetch(https(server), tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == DATA
    assert ["Range" in a for a in server.asked] == [True, False]


def test_what_is_put_in_place_is_on_the_disk_before(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda *a: done.append("fsync") or sync(*a))
    monkeypatch.setattr(os, "replace", lambda *a: done.append("replace") or replace(*a))
    fetch(https(server), tmp_path / "x")
    assert done == ["fsync", "replace"]


@pytest.mark.parametrize("etag", ["", 'W/"weak"'])
def test_without_a_name_for_the_version_and_without_a_checksum_it_is_begun_again(etag: str, server: Server, tmp_path: Path) -> None:
    server.etag = etag
    interrupted(https(server), server, tmp_path / "x")
    fetch(https(server), tmp_path / "x")
    assert ["Range" in a for a in server.asked] == [False]


def test_a_busy_server_is_asked_again(transport: Transport, server: Server, tmp_path: Path) -> None:
    server.status = [503]
    fetch(transport, tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == DATA


@pytest.mark.parametrize(
    ("status", "kind", "said"),
    [
        (403, DownloadError, r"does not let you have it \(403\)"),
        (404, DownloadError, r"is not there \(404\)"),
        (500, TransientError, "answered 500"),
    ],
)
def test_what_the_server_refuses(status: int, kind: type[DownloadError], said: str, transport: Transport, server: Server) -> None:
    server.status = [status]
    with pytest.raises(DownloadError, match=said) as caught:
        transport.open("x", 0, "")
    assert type(caught.value) is kind


def test_a_server_that_is_not_there(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.server_close()
    with pytest.raises(TransientError, match="cannot be reached"):
        https(server).open("x", 0, "")
    if shutil.which("wget"):
        monkeypatch.setenv("PHYSIONET_USERNAME", "me")
        monkeypatch.setenv("PHYSIONET_PASSWORD", "secret")
        with pytest.raises(TransientError, match="cannot be reached"):
            wget(server).open("x", 0, "")


def test_redirects_lead_to_secure_places_only(server: Server, tmp_path: Path) -> None:
    server.redirect = ["/b/x", f"{server.base}c/x"]
    fetch(https(server), tmp_path / "x")
    assert [a["path"] for a in server.asked] == ["/x", "/b/x", "/c/x"]
    for place in ("http://example.org/x", "file:///etc/passwd", "ftp://example.org/x"):
        server.redirect = [place]
        with pytest.raises(DownloadError, match="is not an https:// address"):
            https(server).open("x", 0, "")
    server.redirect = ["/x"] * 10
    with pytest.raises(DownloadError, match="from one address to the next more than 5 times"):
        https(server).open("x", 0, "")


@needs_wget
def test_a_password_is_not_shown_to_where_a_redirect_leads(transport: Transport, server: Server) -> None:
    server.redirect = ["/elsewhere"]
    if isinstance(transport, WgetTransport):
        with pytest.raises(DownloadError, match=r"has moved to /elsewhere \(302\)"):
            transport.open("x", 0, "")
        assert [a["path"] for a in server.asked] == ["/x"]


def test_restricted_files_without_credentials(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RefusedError, match=r"credentialed users only. Sign the agreement. Then set PHYSIONET_USERNAME .*~/.netrc"):
        find_credentials(server.base, "Sign the agreement.")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(RefusedError, match="to wget only, and wget is not installed"):
        wget(server)
    assert server.asked == []


@needs_wget
def test_a_wrong_password_ends_it_and_is_never_shown(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.password = "me:right"
    monkeypatch.setenv("PHYSIONET_USERNAME", "me")
    monkeypatch.setenv("PHYSIONET_PASSWORD", "wr0ng")
    with pytest.raises(RefusedError, match=r"asks who you are \(401\). Sign the agreement.") as caught:
        fetch(wget(server), tmp_path / "x", tries=5)
    assert "wr0ng" not in str(caught.value)
    assert len(server.asked) <= 2


@needs_wget
def test_credentials_from_netrc_and_in_no_command_line(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server.password = "me:s3cret"
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login me password s3cret\n")
    (tmp_path / ".netrc").chmod(0o600)
    commands = []
    start: Callable[..., Any] = subprocess.Popen
    monkeypatch.setattr(download_https.subprocess, "Popen", lambda command, **k: commands.append(command) or start(command, **k))
    fetch(wget(server), tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == DATA
    assert commands
    assert "s3cret" not in str(commands)
    monkeypatch.setenv("PHYSIONET_USERNAME", "me")
    monkeypatch.setenv("PHYSIONET_PASSWORD", "two\nlines")
    with pytest.raises(RefusedError, match="holds a line break"):
        wget(server)


def certificate(folder: Path) -> Path:
    """A certificate for 127.0.0.1 that nobody trusts, with its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1)).not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    form = serialization.Encoding.PEM
    path = folder / "certificate.pem"
    key_text = key.private_bytes(form, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(made.public_bytes(form) + key_text)
    return path


def test_certificates_are_looked_at(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.base = server.base.replace("http:", "https:")
    with pytest.raises(RefusedError, match=r"certificate is not trusted.*SSL_CERT_FILE"):
        https(server).open("x", 0, "")
    assert server.asked == []
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    fetch(https(server), tmp_path / "x")
    assert (tmp_path / "x").read_bytes() == DATA


def test_the_program_says_who_it_is(server: Server, tmp_path: Path) -> None:
    fetch(https(server), tmp_path / "x")
    assert server.asked[0]["User-Agent"].startswith("einthoven/")
    assert "Authorization" not in server.asked[0]

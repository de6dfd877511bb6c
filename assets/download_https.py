"""Fetches files over HTTPS: open ones directly, those that PhysioNet gives to its users with wget.

PhysioNet takes user name and password (HTTP basic authentication) from wget and libwfdb only and ignores them in requests of
other programs, so wget, with the command line that PhysioNet's pages show, is what asks for restricted files.
"""

from __future__ import annotations

import netrc
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from typing import IO, Any
from urllib.parse import quote, urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

from assets.download_transport import (
    CONNECT_TIMEOUT_S,
    PIECE_BYTES,
    READ_TIMEOUT_S,
    Answer,
    DownloadError,
    RefusedError,
    TransientError,
    opened,
)

USER_VARIABLE, PASSWORD_VARIABLE = "PHYSIONET_USERNAME", "PHYSIONET_PASSWORD"
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_MOST_REDIRECTS = 5


def require_secure(url: str) -> str:
    """The address itself, if nobody on the way can read or change what is sent; plain HTTP only to this machine.

    Raises:
        DownloadError: it is neither HTTPS nor on this machine, or holds a user name.
    """
    parts = urlsplit(url)
    if not (parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)) or not parts.hostname:
        raise DownloadError(f"{url!r} is not an https:// address; nothing is fetched over connections that others can read or change")
    if parts.username or parts.password:
        raise DownloadError(f"an address of {parts.hostname} holds a user name; put credentials into the environment or ~/.netrc instead")
    return url


class HttpsTransport:
    """Files below an address, or anywhere by whole address."""

    def __init__(self, base: str, *, workers: int, directions: str = "") -> None:
        """`base` ends in "/"; "" where every file has an address of its own."""
        self.name = require_secure(base) if base else "https"
        self._base, self._workers, self._directions = base, workers, directions
        self._pools: dict[str, Any] = {}

    def connect(self) -> None:
        """Make what the threads share."""
        import urllib3

        options: dict[str, Any] = {
            "maxsize": self._workers,
            "timeout": urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=READ_TIMEOUT_S),
            "retries": False,
            "headers": {"User-Agent": f"einthoven/{version('einthoven')}", "Accept-Encoding": "identity"},
        }
        self._pools[""] = urllib3.PoolManager(**options)
        for scheme, proxy in getproxies().items():
            if scheme in ("http", "https"):
                self._pools[scheme] = urllib3.ProxyManager(proxy, **options)

    def open(self, address: str, start: int, etag: str) -> Answer:
        """As `Transport.open`. Follows redirects, to secure addresses only."""
        url = _join(self._base, address)
        headers = {**({"Range": f"bytes={start}-"} if start else {}), **({"If-Range": etag} if start and etag else {})}
        for _ in range(_MOST_REDIRECTS):
            answer = self._ask(require_secure(url), headers)
            found = {k.lower(): v for k, v in answer.headers.items()}
            if answer.status not in (301, 302, 303, 307, 308) or "location" not in found:
                break
            answer.close()
            url = urljoin(url, found["location"])
        else:
            raise DownloadError(f"{_join(self._base, address)} leads from one address to the next more than {_MOST_REDIRECTS} times")
        try:
            n_bytes = opened(answer.status, found, start, url, directions=self._directions)
        except DownloadError:
            answer.close()
            raise
        return Answer(n_bytes, _strong(found), _pieces(answer, url), answer.close)

    def _ask(self, url: str, headers: Mapping[str, str]) -> Any:
        from urllib3.exceptions import HTTPError, SSLError

        parts = urlsplit(url)
        direct = parts.hostname in _LOOPBACK or proxy_bypass(parts.hostname or "")
        pool = self._pools[""] if direct else self._pools.get(parts.scheme, self._pools[""])
        try:
            return pool.request(
                "GET", url, headers={**pool.headers, **headers}, preload_content=False, decode_content=False, redirect=False
            )
        except SSLError as error:
            raise RefusedError(
                f"{url}: the server's certificate is not trusted ({error}); behind a proxy of your site, name its certificate with SSL_CERT_FILE"
            ) from error
        except (HTTPError, OSError) as error:
            raise TransientError(f"{url} cannot be reached ({error})") from error


def _pieces(answer: Any, what: str) -> Iterator[bytes]:
    """The bytes of an answer; urllib3 compares their number with what was announced."""
    from urllib3.exceptions import HTTPError

    try:
        yield from answer.stream(PIECE_BYTES, decode_content=False)
    except (HTTPError, OSError) as error:
        raise TransientError(f"{what}: the connection broke ({error})") from error
    answer.release_conn()


def _strong(headers: Mapping[str, str]) -> str:
    """What a later request names the version by; weak tags do not promise equal bytes."""
    etag = headers.get("etag", "")
    return "" if etag.startswith("W/") else etag


def _join(base: str, address: str) -> str:
    return address if not base else base + quote(address)


def find_credentials(url: str, directions: str) -> tuple[str, str]:
    """User name and password for an address: from the environment, else from ~/.netrc (or the file that NETRC names).

    Raises:
        RefusedError: there are none, or ~/.netrc cannot be read.
    """
    host = urlsplit(url).hostname or ""
    user, password = os.environ.get(USER_VARIABLE, ""), os.environ.get(PASSWORD_VARIABLE, "")
    if not (user and password):
        try:
            found = netrc.netrc(os.environ.get("NETRC")).authenticators(host)
        except FileNotFoundError:
            found = None
        except (netrc.NetrcParseError, OSError) as error:
            raise RefusedError(f"the credentials for {host} cannot be read: {error}") from error
        user, password = (found[0], found[2] or "") if found else ("", "")
    if not (user and password):
        raise RefusedError(
            f"{url} is given to credentialed users only. {directions} Then set {USER_VARIABLE} and {PASSWORD_VARIABLE}, "
            f"or write `machine {host} login <user> password <password>` into ~/.netrc (mode 600), and run the same command"
        )
    if any(c in user + password for c in "\r\n\0"):
        raise RefusedError(f"the user name or password for {host} holds a line break; set it again")
    return user, password


class WgetTransport:
    """Files below an address that asks for user name and password, fetched by wget; the password is in no command line."""

    def __init__(self, base: str, *, directions: str) -> None:
        """Looks for wget and the credentials.

        Raises:
            RefusedError: one of them is missing.
        """
        self._base, self._directions = require_secure(base), directions
        self.name = base
        program = shutil.which("wget")
        if program is None:
            raise RefusedError(f"{base} gives restricted files to wget only, and wget is not installed; install it (apt install wget)")
        self._program = program
        self._user, self._password = find_credentials(base, directions)

    def connect(self) -> None:
        """Write the credentials where only the wgets started here read them: into memory, never to a disk."""
        self._wgetrc = os.memfd_create("wgetrc")
        os.write(self._wgetrc, f"user = {self._user}\npassword = {self._password}\n".encode())

    def open(self, address: str, start: int, etag: str) -> Answer:
        """As `Transport.open`. Redirects are not followed, as wget would show the password to wherever they lead."""
        url = _join(self._base, address)
        said = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the answer
        command = [
            self._program, f"--config=/dev/fd/{self._wgetrc}", "--quiet", "--server-response", "--tries=1", "--max-redirect=0",
            f"--timeout={READ_TIMEOUT_S:.0f}", f"--connect-timeout={CONNECT_TIMEOUT_S:.0f}", "--output-document=-",
            *([f"--start-pos={start}"] if start else []), *([f"--header=If-Range: {etag}"] if start and etag else []), url,
        ]  # fmt: skip
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said, pass_fds=(self._wgetrc,))
        assert process.stdout is not None
        close = _closer(process, said)
        try:
            first = process.stdout.read1(PIECE_BYTES)  # type: ignore[attr-defined]
            said.seek(0)
            status, headers = _last_answer(said.read().decode("latin-1"))
            if status == 0:
                raise TransientError(f"{url} cannot be reached (wget ended with {process.wait()})")
            n_bytes = opened(status, headers, start, url, directions=self._directions)
        except BaseException:
            close()
            raise
        return Answer(n_bytes, _strong(headers), _stdout(first, process.stdout, process, url), close)


def _stdout(first: bytes, stream: IO[bytes], process: subprocess.Popen[bytes], what: str) -> Iterator[bytes]:
    """The bytes that wget passes on; it ends with a code other than 0 when fewer came than were announced."""
    piece = first
    while piece:
        yield piece
        piece = stream.read(PIECE_BYTES)
    if code := process.wait():
        raise TransientError(f"{what}: the connection broke (wget ended with {code})")


def _closer(process: subprocess.Popen[bytes], said: IO[bytes]) -> Callable[[], None]:
    def close() -> None:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
        said.close()

    return close


def _last_answer(text: str) -> tuple[int, dict[str, str]]:
    """Status and headers of the last answer that wget reports (the first one asks for the password); (0, {}) for none."""
    status, headers = 0, dict[str, str]()
    for line in text.splitlines():
        words = line.split()
        if line.startswith("  HTTP/") and len(words) > 1 and words[1].isdigit():
            status, headers = int(words[1]), {}
        elif line.startswith("  ") and ":" in line:
            name, _, value = line.strip().partition(":")
            headers[name.lower()] = value.strip()
    return status, headers

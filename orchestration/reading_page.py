"""The page on which readers say of each sheet of a packet whether it is real: a small web server of the standard library.

`GET /` is the page, `GET /sheet/<number>` a sheet, `GET /state?reader=<name>` what is left for a reader, `POST /answer` takes an answer
(JSON: packet, reader, sheet, answer, confidence). It never opens a key.
"""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from assets.blinded import READER, SHEETS, Answer, ReadingError, append_answer, read_answers, read_packet

_MOST_BYTES = 4096
_POLICY = "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; form-action 'none'"


def make_server(packet: Path, answers: Path, host: str, port: int) -> ThreadingHTTPServer:
    """A server of a packet that keeps answers in a folder; port 0 takes a free one. Start it with `serve_forever`.

    Raises:
        ReadingError: there is no packet, or the address cannot be taken.
    """
    held, lock = read_packet(packet), threading.Lock()

    class Page(_Page):
        folder = packet
        answers_folder = answers
        packet_facts = held
        writing = lock
        hosts = (host, "localhost", "127.0.0.1", "[::1]")

    try:
        return ThreadingHTTPServer((host, port), Page)
    except OSError as error:
        raise ReadingError(f"the page cannot be served at {host}:{port} ({error}); choose another --port") from error


class _Page(BaseHTTPRequestHandler):
    """Answers one request."""

    folder: Path
    answers_folder: Path
    packet_facts: dict[str, Any]
    writing: threading.Lock
    hosts: tuple[str, ...]

    def do_GET(self) -> None:
        """The page, a sheet, or a reader's state."""
        place = urlsplit(self.path)
        if not self._at_home():
            return
        if place.path == "/":
            page = resources.files("orchestration.templates").joinpath("reading.html").read_bytes()
            self._send(HTTPStatus.OK, page, "text/html; charset=utf-8")
        elif place.path.startswith("/sheet/") and (number := place.path.removeprefix("/sheet/")).isdecimal():
            self._sheet(int(number))
        elif place.path == "/state":
            self._state("".join(parse_qs(place.query).get("reader", [])))
        else:
            self._refuse(HTTPStatus.NOT_FOUND, "there is nothing here; the page is at /")

    def do_POST(self) -> None:
        """Keep an answer."""
        length = self.headers.get("Content-Length", "")
        if not self._at_home():
            return
        if self.path != "/answer" or self.headers.get_content_type() != "application/json":
            self._refuse(HTTPStatus.NOT_FOUND, "answers are posted to /answer as application/json")
        elif not length.isdecimal() or int(length) > _MOST_BYTES:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"an answer has at most {_MOST_BYTES} bytes")
        else:
            self._keep(self.rfile.read(int(length)))

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the terminal belongs to whoever started the page."""

    def _at_home(self) -> bool:
        """Whether the page was asked for by an address of its own; a foreign page that reaches it by another name is refused."""
        host = self.headers.get("Host", "").rpartition(":")[0] or self.headers.get("Host", "")
        if host in self.hosts or "0.0.0.0" in self.hosts:
            return True
        self._refuse(HTTPStatus.FORBIDDEN, f"this page is not served as {host!r}")
        return False

    def _sheet(self, number: int) -> None:
        if number not in self.packet_facts["sheets"]:
            self._refuse(HTTPStatus.NOT_FOUND, f"the packet has no sheet {number}")
            return
        self._send(HTTPStatus.OK, (self.folder / SHEETS / f"{number:03d}.png").read_bytes(), "image/png")

    def _state(self, reader: str) -> None:
        if not READER.fullmatch(reader):
            self._refuse(HTTPStatus.BAD_REQUEST, "a name has 1 to 40 letters, digits, spaces, dots, lines or underscores")
            return
        answered = {a.sheet for a in read_answers(self.answers_folder, reader)}
        left = [sheet for sheet in self.packet_facts["sheets"] if sheet not in answered]
        self._json({"packet": self.packet_facts["packet"], "sheets": len(self.packet_facts["sheets"]), "left": left})

    def _keep(self, body: bytes) -> None:
        try:
            said = json.loads(body)
            answer = Answer(
                str(said["packet"]), str(said["reader"]), int(said["sheet"]), said["answer"], said["confidence"],
                datetime.now(UTC).isoformat(timespec="seconds"),
            )  # fmt: skip
        except (ValueError, KeyError, TypeError) as error:
            self._refuse(HTTPStatus.BAD_REQUEST, f"this is no answer ({error!r})")
            return
        try:
            with self.writing:
                append_answer(self.answers_folder, self.packet_facts, answer)
        except ReadingError as error:
            self._refuse(HTTPStatus.CONFLICT, str(error))
        else:
            self._json({"kept": answer.sheet})

    def _json(self, value: Any) -> None:
        self._send(HTTPStatus.OK, json.dumps(value).encode(), "application/json")

    def _refuse(self, status: HTTPStatus, words: str) -> None:
        self._send(status, json.dumps({"error": words}).encode(), "application/json")

    def _send(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Security-Policy", _POLICY)
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(body)

"""The reading page over HTTP: what it serves, keeps and refuses."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from assets.blinded import ReadingError, read_answers
from orchestration.reading_page import make_server


@dataclass
class Page:
    port: int
    folder: Path

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, bytes, dict[str, str]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection.request(method, path, content, {"Content-Type": "application/json"} | headers)
        reply = connection.getresponse()
        return reply.status, reply.read(), dict(reply.headers)

    def say(self, **changes: Any) -> tuple[int, Any]:
        said = {"packet": "abc", "reader": "Dr A", "sheet": 1, "answer": "real", "confidence": 4}
        status, body, _ = self.ask("POST", "/answer", said | changes)
        return status, json.loads(body)


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    sheets = tmp_path / "packet" / "sheets"
    sheets.mkdir(parents=True)
    (tmp_path / "packet" / "packet.json").write_text(json.dumps({"packet": "abc", "sheets": [{"sheet": 1}, {"sheet": 2}]}))
    (tmp_path / "key.json").write_text("secret")
    for number in (1, 2):
        (sheets / f"{number:03d}.png").write_bytes(b"picture %d" % number)
    with make_server(tmp_path / "packet", tmp_path / "answers", "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield Page(server.server_address[1], tmp_path)
        server.shutdown()
        thread.join()


def test_the_page_and_its_sheets_are_served_under_a_strict_policy(page: Page) -> None:
    status, body, headers = page.ask("GET", "/")
    assert status == 200 and b"Is this ECG real" in body and "default-src 'none'" in headers["Content-Security-Policy"]
    assert page.ask("GET", "/sheet/2")[:2] == (200, b"picture 2")


def test_an_answer_is_on_the_disk_before_the_reply_and_the_state_follows(page: Page) -> None:
    assert json.loads(page.ask("GET", "/state?reader=Dr%20A")[1]) == {"packet": "abc", "sheets": 2, "left": [1, 2]}
    assert page.say() == (200, {"kept": 1})
    (kept,) = read_answers(page.folder / "answers", "Dr A")
    assert (kept.sheet, kept.answer, kept.confidence) == (1, "real", 4) and kept.at.endswith("+00:00")
    assert json.loads(page.ask("GET", "/state?reader=Dr%20A")[1])["left"] == [2]
    assert json.loads(page.ask("GET", "/state?reader=Dr%20B")[1])["left"] == [1, 2]


def test_of_two_answers_at_once_one_is_kept(page: Page) -> None:
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda confidence: page.say(confidence=1 + confidence % 5), range(16)))
    assert sorted(status for status, _ in replies) == [200] + [409] * 15
    assert len(read_answers(page.folder / "answers", "Dr A")) == 1


@pytest.mark.parametrize(
    "path", ["/key.json", "/../key.json", "/sheet/../../key.json", "/sheet/%2e%2e", "/sheet/3", "/sheet/-1", "/sheet/²"]
)
def test_nothing_but_sheets_of_the_packet_is_given_out(page: Page, path: str) -> None:
    status, body, _ = page.ask("GET", path.replace("²", "%C2%B2"))
    assert status == 404 and b"secret" not in body


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"sheet": 9}, 409),
        ({"packet": "x"}, 409),
        ({"reader": "../x"}, 409),
        ({"answer": "maybe"}, 409),
        ({"confidence": 9}, 409),
        ({"sheet": "one"}, 400),
    ],
)
def test_what_is_no_answer_is_refused(page: Page, changes: dict[str, Any], status: int) -> None:
    found, body = page.say(**changes)
    assert found == status and body["error"] and not (page.folder / "answers").exists()


def test_bodies_that_are_no_answer_are_refused(page: Page) -> None:
    assert page.ask("POST", "/answer", b"not json")[0] == 400
    assert page.ask("POST", "/answer", b"[]")[0] == 400
    assert page.ask("POST", "/answer", b" " * 5000)[0] == 413
    assert page.ask("POST", "/other", {})[0] == 404
    assert page.ask("POST", "/answer", {}, **{"Content-Type": "text/plain"})[0] == 404
    assert page.ask("GET", "/state?reader=")[0] == 400


def test_a_foreign_name_for_the_page_is_refused(page: Page) -> None:
    assert page.ask("GET", "/", Host="evil.example:80")[0] == 403
    assert page.ask("POST", "/answer", {}, Host="evil.example")[0] == 403
    assert page.ask("GET", "/", Host=f"localhost:{page.port}")[0] == 200


def test_a_taken_port_and_a_missing_packet_are_said(page: Page, tmp_path: Path) -> None:
    with pytest.raises(ReadingError, match="another --port"):
        make_server(page.folder / "packet", tmp_path, "127.0.0.1", page.port)
    with pytest.raises(ReadingError, match="not a packet"):
        make_server(tmp_path / "none", tmp_path, "127.0.0.1", 0)

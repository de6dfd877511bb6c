"""`einthoven data`: a licence is accepted once and on record, a download becomes a dataset, and what is there is shown."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from typer.testing import CliRunner, Result

from assets.dataset import get_dataset
from assets.outputs import Key, Workspace
from models.errors import EinthovenError
from orchestration.cli import app

PREFIX = "ptb-xl/1.0.3/"


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """PhysioNet's open bucket with an imitation of PTB-XL: address of the server, and the folder that was published."""
    from moto.server import ThreadedMotoServer

    folder = tmp_path_factory.mktemp("published")
    get_dataset("ptb_xl").make_fixture(folder)
    for path in [*folder.glob("records500/*/*"), *sorted(folder.glob("records100/*/*"))[80:]]:
        path.unlink()
    files = {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
    files["SHA256SUMS.txt"] = "".join(f"{hashlib.sha256(d).hexdigest()} {name}\n" for name, d in files.items()).encode()
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    client = boto3.client(
        "s3", endpoint_url=f"http://{host}:{port}", aws_access_key_id="test", aws_secret_access_key="test", region_name="us-east-1"
    )
    client.create_bucket(Bucket="physionet-open", ACL="public-read")
    for name, data in files.items():
        client.put_object(Bucket="physionet-open", Key=PREFIX + name, Body=data, ACL="public-read")
    yield f"http://{host}:{port}", folder
    server.stop()


@pytest.fixture
def online(bucket: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [n for n in os.environ if n.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", bucket[0])
    return bucket[1]


def cli(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["data", *arguments])


def refusal(*arguments: str) -> str:
    result = cli(*arguments)
    assert isinstance(result.exception, EinthovenError), result.output
    return str(result.exception)


def names(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and p.name != "SHA256SUMS.txt")


def test_a_licence_that_nobody_accepted_fetches_nothing(home: Path, online: Path) -> None:
    said = refusal("download", "ptb_xl")
    assert "the licence of PTB-XL (CC BY 4.0) was not accepted" in said
    assert "--accept-licence" in said
    assert not (home / "source").exists()
    assert not (home / "licences").exists()


def test_from_the_bucket_to_the_raw_stage(home: Path, online: Path) -> None:
    from assets.raw import make_raw

    first = cli("download", "ptb_xl", "--accept-licence")
    assert first.exception is None, first.output
    for words in ("CC BY 4.0", "Wagner et al.", "without an account", "about 3.0 GB"):
        assert words in first.output, words
    assert "82 files are there: 82 fetched" in first.output
    folder = home / "source" / "ptb_xl"
    assert names(folder) == names(online)
    record = json.loads((home / "licences" / "ptb_xl.json").read_text())
    assert (record["licence"], record["version"]) == ("CC BY 4.0", "1.0.3")
    assert record["accepted_at"].endswith("+00:00")

    second = cli("download", "ptb_xl")
    assert "82 files are there: 0 fetched (0.0 MB), 82 were there already" in second.output
    listed = next(line for line in cli("list").output.splitlines() if "ptb_xl" in line)
    assert listed.split()[-1] == str(folder)

    make_raw(Workspace(home), get_dataset("ptb_xl")(folder), lambda _: None)
    raw = Workspace(home).require(Key(("raw", "ptb_xl")))
    assert (raw.facts["n_present"], raw.facts["n_files"]) == (40, 82)
    assert "intact" in cli("verify", "ptb_xl").output


def test_a_part_of_it_in_another_folder(home: Path, online: Path, tmp_path: Path) -> None:
    options = ["--accept-licence", "--only", "*.csv", "--only", "records100/*_lr.hea", "--folder", str(tmp_path / "elsewhere")]
    result = cli("download", "ptb_xl", *options)
    assert result.exception is None, result.output
    assert f"datasets: {{ptb_xl: {tmp_path / 'elsewhere'}}}" in result.output
    assert len(names(tmp_path / "elsewhere")) == 42
    assert not (home / "source").exists()


def test_nobody_is_asked_to_accept_what_cannot_be_had(home: Path) -> None:
    assert "cannot be downloaded by a program" in refusal("download", "chexpert", "--accept-licence")
    assert "is simulated" in refusal("download", "synthetic", "--accept-licence")
    assert "there is no dataset 'nonesuch'" in refusal("download", "nonesuch")
    assert not (home / "licences").exists()


def test_the_list_names_every_dataset(home: Path) -> None:
    from assets.dataset import list_datasets

    shown = cli("list").output
    assert all(name in shown for name in list_datasets() if len(name) < 10)
    assert "made on" in shown

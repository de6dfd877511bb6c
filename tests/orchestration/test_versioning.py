"""DVC for real: repro runs the graph, push and pull bring it back bit for bit through S3, and access classes hold."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import boto3
import dagster as dg
import pytest

from assets.access import Access, AccessError
from assets.dataset import get_dataset
from assets.outputs import Built, Key, Workspace, sha256_file
from assets.settings import PROJECT, load
from orchestration.versioning import default_remote, require_dvc_allows

STAGES = ["raw", "cleaned@native", "labels@super", "reports@english"]


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real S3 protocol server on loopback, with an empty bucket."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    boto3.client("s3", endpoint_url=url, aws_access_key_id="test", aws_secret_access_key="test", region_name="us-east-1").create_bucket(
        Bucket="store"
    )
    yield url
    server.stop()


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project folder as a clone has it, with a small source dataset."""
    folder = tmp_path / "project"
    folder.mkdir()
    for name in ("dvc.yaml", "params.yaml", ".dvcignore"):
        shutil.copy(PROJECT / name, folder / name)
    (folder / ".dvc").mkdir()
    shutil.copy(PROJECT / ".dvc" / "config", folder / ".dvc" / "config")
    for name in ("assets", "models"):
        (folder / name).symlink_to(PROJECT / name)
    get_dataset("synthetic").make_fixture(folder / "data" / "source" / "synthetic")
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    return folder


def dvc(project: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    bin_folder = str(Path(sys.executable).parent)
    env = {
        **os.environ,
        "PATH": f"{bin_folder}:{os.environ['PATH']}",
        "EINTHOVEN_HOME": str(project / "data"),
        "DAGSTER_HOME": str(project / "data" / "dagster"),
    }
    return subprocess.run(
        [sys.executable, "-P", "-m", "dvc", *arguments],
        cwd=project,
        env={**env, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def hashes(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): sha256_file(p) for p in sorted(folder.rglob("*")) if p.is_file()}


def test_repro_push_and_pull_bring_the_store_back_bit_for_bit(project: Path, s3: str) -> None:
    source = hashes(project / "data" / "source")
    made = dvc(project, "repro", *STAGES)
    assert made.returncode == 0, made.stdout + made.stderr
    folder = project / "data" / "cleaned" / "synthetic" / "native"
    store = hashes(folder)
    assert any(name.endswith("shard-00000.npy") for name in store)

    for option in (
        ["remote", "add", "--local", "--default", "s3", "s3://store/einthoven"],
        ["remote", "modify", "--local", "s3", "endpointurl", s3],
    ):
        assert dvc(project, *option).returncode == 0
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
    pushed = dvc(project, "push", *STAGES, **keys)
    assert pushed.returncode == 0, pushed.stderr

    shutil.rmtree(project / "data" / "cleaned")
    shutil.rmtree(project / ".dvc" / "cache")
    pulled = dvc(project, "pull", "cleaned@native", **keys)
    assert pulled.returncode == 0, pulled.stderr
    assert hashes(folder) == store
    assert hashes(project / "data" / "source") == source


def test_a_failing_repro_leaves_raw_data_and_what_was_made_untouched(project: Path) -> None:
    assert dvc(project, "repro", "raw", "cleaned@native").returncode == 0
    table = project / "data" / "source" / "synthetic" / "records.csv"
    text = table.read_text().splitlines()
    fold = text[0].split(",").index("fold")
    first = text[1].split(",")
    row = next(i for i, line in enumerate(text[2:], 2) if line.split(",")[1] == first[1])
    cells = text[row].split(",")
    cells[fold] = "10" if first[fold] != "10" else "1"
    table.write_text("\n".join([*text[:row], ",".join(cells), *text[row + 1 :]]) + "\n")
    source, cleaned = hashes(project / "data" / "source"), hashes(project / "data" / "cleaned")

    failed = dvc(project, "repro", "raw", "cleaned@native")
    assert failed.returncode != 0
    assert "patient_leakage" in failed.stdout + failed.stderr
    assert first[1] in failed.stdout + failed.stderr
    assert hashes(project / "data" / "source") == source
    assert hashes(project / "data" / "cleaned") == cleaned


def test_every_stage_of_the_pipeline_names_an_asset_its_partition_and_its_folder(project: Path) -> None:
    from dvc.repo import Repo

    from orchestration.definitions import defs

    graph = defs.resolve_asset_graph()
    with Repo(str(project)) as repo:
        commands = {str(stage.outs[0].fs_path): str(stage.cmd).split() for stage in repo.index.stages if stage.cmd}
    assert len(commands) >= 40
    for folder, (_, verb, asset, *options) in commands.items():
        assert verb == "materialize"
        partition = options[options.index("--partition") + 1] if "--partition" in options else None
        node = graph.get(dg.AssetKey(asset.split("/")))
        assert node.partitions_def is None or node.partitions_def.has_partition_key(str(partition))
        assert Path(folder).relative_to(project / "data") == Path(asset, *([partition] if partition else []))


def test_restricted_outputs_do_not_go_to_a_remote_off_this_machine(tmp_path: Path, home: Path) -> None:
    (tmp_path / ".dvc").mkdir()
    config = tmp_path / ".dvc" / "config"
    output = Workspace(home).publish(Key(("cleaned", "x"), "native"), lambda _: Built(rows=0), code_version="1", access=Access.CREDENTIALED)

    config.write_text("[core]\n    remote = local\n['remote \"local\"']\n    url = ../store\n")
    assert default_remote(tmp_path) == "../store"
    require_dvc_allows(load(), [output], tmp_path)

    (tmp_path / ".dvc" / "config.local").write_text("[core]\n    remote = s3\n['remote \"s3\"']\n    url = s3://bucket/x\n")
    assert default_remote(tmp_path) == "s3://bucket/x"
    with pytest.raises(AccessError, match=r"cleaned/x\[native\].*s3://bucket/x.*destinations\.dvc: credentialed"):
        require_dvc_allows(load(), [output], tmp_path)

    (home / "settings.yaml").write_text("destinations: {dvc: credentialed}\n")
    require_dvc_allows(load(), [output], tmp_path)

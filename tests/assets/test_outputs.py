"""Publishing: whole outputs or none, the same question answered once, nothing lost."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from assets.access import Access
from assets.outputs import Built, Key, Output, OutputError, Workspace, sha256_file, verify

KEY = Key(("cleaned", "toy"), "native")


def publish(workspace: Workspace, text: str = "signal", *, version: str = "1", calls: list[str] | None = None) -> Output:
    def build(folder: Path) -> Built:
        if calls is not None:
            calls.append(text)
        (folder / "shard.bin").write_text(text)
        (folder / "figures").mkdir()
        (folder / "figures" / "ecg.png").write_bytes(os.urandom(16))
        return Built(rows=1, facts={"n": 1}, notes={"seconds": time.time()})

    return workspace.publish(KEY, build, code_version=version, access=Access.OPEN, config={"text": text}, upstream={"raw/toy": "abc"})


def test_same_inputs_are_answered_once_and_give_the_same_data_version(tmp_path: Path) -> None:
    calls: list[str] = []
    first = publish(Workspace(tmp_path), calls=calls)
    second = publish(Workspace(tmp_path), calls=calls)
    assert calls == ["signal"]
    assert second.reused
    assert not first.reused
    assert first.data_version == second.data_version


def test_pictures_and_notes_do_not_enter_the_data_version(tmp_path: Path) -> None:
    assert publish(Workspace(tmp_path / "a")).data_version == publish(Workspace(tmp_path / "b")).data_version


@pytest.mark.parametrize("change", ["text", "version"])
def test_other_inputs_give_another_version_and_the_old_one_stays_readable(tmp_path: Path, change: str) -> None:
    workspace = Workspace(tmp_path)
    old = publish(workspace)
    new = publish(workspace, "other") if change == "text" else publish(workspace, version="2")
    assert new.data_version != old.data_version
    assert workspace.require(KEY).folder == new.folder
    assert old.path("shard.bin").read_text() == "signal"


def test_going_back_to_earlier_inputs_needs_no_work(tmp_path: Path) -> None:
    workspace, calls = Workspace(tmp_path), list[str]()
    old = publish(workspace, calls=calls)
    publish(workspace, "other", calls=calls)
    assert publish(workspace, calls=calls).data_version == old.data_version
    assert calls == ["signal", "other"]


def test_a_builder_that_fails_leaves_the_old_output_and_no_rubbish(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    old = publish(workspace)

    def broken(folder: Path) -> Built:
        (folder / "half").write_text("x")
        raise ValueError("boom")

    with pytest.raises(ValueError, match="boom"):
        workspace.publish(KEY, broken, code_version="9", access=Access.OPEN)
    assert workspace.require(KEY).folder == old.folder
    assert not list(workspace.folder(KEY).glob(".building-*"))


def test_a_full_disk_is_named_and_changes_nothing(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    old = publish(workspace)

    def full(folder: Path) -> Built:
        raise OSError(errno.ENOSPC, "No space left on device", str(folder))

    with pytest.raises(OutputError, match="full; free some space"):
        workspace.publish(KEY, full, code_version="9", access=Access.OPEN)
    assert workspace.require(KEY).data_version == old.data_version


def _slow_publish(root: Path) -> None:
    def build(folder: Path) -> Built:
        (folder / "shard.bin").write_text("half")
        (root / "started").touch()
        time.sleep(60)
        return Built(rows=1)

    Workspace(root).publish(KEY, build, code_version="2", access=Access.OPEN)


def test_kill_9_while_building_leaves_the_old_output_and_the_next_try_works(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    old = publish(workspace)
    process = multiprocessing.get_context("fork").Process(target=_slow_publish, args=(tmp_path,))
    process.start()
    while not (tmp_path / "started").exists():
        time.sleep(0.01)
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    assert workspace.require(KEY).data_version == old.data_version
    new = workspace.publish(KEY, lambda f: Built(rows=(f / "shard.bin").write_text("whole")), code_version="2", access=Access.OPEN)
    assert new.path("shard.bin").read_text() == "whole"
    assert not list(workspace.folder(KEY).glob(".building-*"))


def _count_publish(root: Path) -> None:
    def build(folder: Path) -> Built:
        with (root / "builds").open("a") as stream:
            stream.write("x")
        time.sleep(0.2)
        (folder / "shard.bin").write_text("one")
        return Built(rows=1)

    Workspace(root).publish(KEY, build, code_version="1", access=Access.OPEN)


def test_four_processes_that_ask_the_same_build_once(tmp_path: Path) -> None:
    processes = [multiprocessing.get_context("fork").Process(target=_count_publish, args=(tmp_path,)) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [p.exitcode for p in processes] == [0] * 4
    assert (tmp_path / "builds").read_text() == "x"


def test_a_reader_never_sees_a_torn_output(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    publish(workspace)
    seen = set()
    for number in range(20):
        seen.add(verify(workspace.require(KEY)))
        publish(workspace, f"text {number}")
    assert seen == {None}


def test_damage_is_found_and_named(tmp_path: Path) -> None:
    output = publish(Workspace(tmp_path))
    output.path("shard.bin").write_text("sIgnal")
    with pytest.raises(OutputError, match=r"shard\.bin differs from its manifest"):
        verify(output)


def test_an_identity_that_lost_a_file_is_built_again(tmp_path: Path) -> None:
    workspace, calls = Workspace(tmp_path), list[str]()
    output = publish(workspace, calls=calls)
    output.path("shard.bin").unlink()
    assert publish(workspace, calls=calls).path("shard.bin").read_text() == "signal"
    assert calls == ["signal", "signal"]


def test_manifest_lists_every_file_with_its_sum(tmp_path: Path) -> None:
    output = publish(Workspace(tmp_path))
    manifest = json.loads((output.folder / "manifest.json").read_text())
    assert [(f["path"], f["sha256"]) for f in manifest["files"]] == [("shard.bin", sha256_file(output.path("shard.bin")))]
    assert [f["path"] for f in manifest["figures"]] == ["figures/ecg.png"]
    assert manifest["upstream"] == {"raw/toy": "abc"}


def test_an_unreadable_manifest_and_an_unknown_format_are_typed_errors(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    output = publish(workspace)
    (output.folder / "manifest.json").write_text("{")
    with pytest.raises(OutputError, match="cannot be read"):
        workspace.require(KEY)
    (output.folder / "manifest.json").write_text(json.dumps({**output.manifest, "format_version": 99}))
    with pytest.raises(OutputError, match="format version 99"):
        workspace.require(KEY)


def test_what_was_never_made_is_said(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cleaned/toy\[native\] has not been made yet"):
        Workspace(tmp_path).require(KEY)


def test_another_access_class_is_another_output(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    first = workspace.publish(KEY, lambda _: Built(rows=0), code_version="1", access=Access.OPEN)
    second = workspace.publish(KEY, lambda _: Built(rows=0), code_version="1", access=Access.PRIVATE)
    assert (second.reused, second.access, workspace.require(KEY).access) == (False, Access.PRIVATE, Access.PRIVATE)
    assert workspace.publish(KEY, lambda _: Built(rows=0), code_version="1", access=Access.OPEN).folder == first.folder

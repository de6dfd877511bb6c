"""Stage raw: what a dataset consists of, with checksums. The files themselves stay where they are."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from assets.dataset import Dataset
from assets.materialize import WorkspaceResource, asset_key, explained, result
from assets.outputs import Built, Key, Workspace, sha256_file

if TYPE_CHECKING:
    import pandas as pd

CODE_VERSION = "1"
_TRIES = 20


def raw_asset(dataset: type[Dataset]) -> dg.AssetsDefinition:
    """The asset `raw/<dataset>`."""

    @dg.asset(
        key=asset_key("raw", dataset.name),
        group_name="data",
        code_version=f"{CODE_VERSION}.{dataset.version}",
        kinds={"wfdb"},
        tags={"access": str(dataset.access)},
        metadata={"licence": dataset.source.licence, "homepage": dataset.source.homepage, "citation": dataset.source.citation},
        description=f"{dataset.source.title} {dataset.source.version} as it lies on disk: every file with its SHA-256, and the table of records.",
    )
    def raw(context: dg.AssetExecutionContext, workspace: WorkspaceResource) -> dg.MaterializeResult[Any]:
        with explained():
            settings = workspace.settings
            source = settings.open_dataset(dataset)
            source.prepare()
            output = make_raw(workspace.workspace, source, context.log.info)
            present = output.facts["n_present"]
            absent = output.facts["n_records"] - present
            return result(
                context, output, settings,
                {"source": dg.MetadataValue.path(str(source.folder)), "records": present, "records_absent": absent, "files": output.facts["n_files"], "bytes": output.facts["n_bytes"]},
            )  # fmt: skip

    return raw


def make_raw(workspace: Workspace, dataset: Dataset, log: Callable[[str], None]) -> Any:
    """Checksum a dataset's files and publish their list with the table of records."""
    files = checksum(dataset, workspace.root / "cache" / "checksums" / f"{dataset.name}.parquet", log)

    def build(folder: Path) -> Built:
        records = dataset.records()
        records["present"] = dataset.present(records["record_id"].tolist())
        if dataset.has_images and dataset.channels():
            records["image_present"] = dataset.images_present(records["record_id"].tolist())
        files.to_parquet(folder / "files.parquet", index=False)
        records.to_parquet(folder / "records.parquet", index=False)
        facts = {
            "dataset": dataset.name,
            "version": dataset.source.version,
            "n_files": len(files),
            "n_bytes": int(files["bytes"].sum()),
            "n_records": len(records),
            "n_present": int(records["present"].sum()),
        }
        _draw(folder, dataset, records.loc[records["present"], "record_id"].tolist())
        log(f"{dataset.name}: {facts['n_present']} of {facts['n_records']} records are there")
        return Built(rows=len(records), facts=facts)

    listing = [f"{p}:{s}" for p, s in zip(files["path"], files["sha256"], strict=True)]
    return workspace.publish(
        Key(("raw", dataset.name)),
        build,
        code_version=f"{CODE_VERSION}.{dataset.version}",
        access=dataset.access,
        config={"files": _digest(listing)},
    )


def _draw(folder: Path, dataset: Dataset, record_ids: list[str]) -> None:
    """Show the first record that can be read, as it lies on disk."""
    from assets.plots import ecg_figure, images_figure
    from assets.record import RecordError

    for record_id in record_ids[:_TRIES]:
        try:
            record = next(dataset.pieces(record_id), None) if dataset.channels() else None
            image = dataset.image(record_id) if record is None and dataset.has_images else None
        except RecordError:
            continue  # the next stage says what is wrong with it
        if record is None and image is None:
            return
        (folder / "figures").mkdir()
        if record is None:
            assert image is not None
            images_figure(folder / "figures" / "image.png", image[None], f"{dataset.source.title}: image {record_id} as it lies on disk")
            return
        ecg_figure(
            folder / "figures" / "ecg.png",
            record.signal_LT,
            record.leads,
            record.fs_hz,
            f"{dataset.source.title}: record {record_id} as it lies on disk",
            units=record.units,
        )
        return


def checksum(dataset: Dataset, cache: Path, log: Callable[[str], None]) -> "pd.DataFrame":
    """SHA-256 of every file; a file whose size and modification time are as last time is not read again."""
    import time

    import pandas as pd

    known = _known_checksums(cache, dataset.folder)
    columns: dict[str, list[Any]] = {name: [] for name in ("path", "bytes", "modified_ns", "sha256")}
    paths = dataset.files()
    told = time.monotonic()
    for number, path in enumerate(paths):
        status = (dataset.folder / path).stat()
        name = path.as_posix()
        stamp = (status.st_size, status.st_mtime_ns)
        size, modified_ns, sha256 = known.get(name, (-1, -1, ""))
        if (size, modified_ns) != stamp:
            sha256 = sha256_file(dataset.folder / path)
        for column, value in zip(columns.values(), (name, *stamp, sha256), strict=True):
            column.append(value)
        if time.monotonic() - told > 5:
            told = time.monotonic()
            log(f"{dataset.name}: {number + 1} of {len(paths)} files checksummed")
    table = pd.DataFrame(columns)
    _keep_checksums(cache, table, dataset.folder)
    return table.drop(columns="modified_ns")


def _known_checksums(cache: Path, folder: Path) -> Mapping[str, tuple[int, int, str]]:
    """Size, modification time and SHA-256 of the files of a folder, as they were last time."""
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(cache)
    except (OSError, ValueError):  # there is none yet, or it is torn: every file is read again
        return {}
    if (table.schema.metadata or {}).get(b"folder") != str(folder).encode():
        return {}
    values = [table[name].to_pylist() for name in ("path", "bytes", "modified_ns", "sha256")]
    return {name: (size, modified_ns, sha256) for name, size, modified_ns, sha256 in zip(*values, strict=True)}


def _keep_checksums(cache: Path, table: "pd.DataFrame", folder: Path) -> None:
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    from assets.outputs import write_atomic

    cache.parent.mkdir(parents=True, exist_ok=True)
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pandas(table, preserve_index=False).replace_schema_metadata({"folder": str(folder)}), sink)
    write_atomic(cache, sink.getvalue())


def _digest(lines: list[str]) -> str:
    import hashlib

    return hashlib.sha256("\n".join(lines).encode()).hexdigest()

"""What every asset factory shares: keys, the workspace resource, metadata of a materialisation, and typed failures."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dagster as dg

from assets import settings as settings_module
from assets.access import allows
from assets.outputs import Key, Output, Workspace
from assets.verdicts import require_checked
from models.errors import EinthovenError

PICTURE_LIMIT_BYTES = 600_000
PICTURE_WIDTH_PIXELS = 1080
"""What the UI shows without cutting the right side off."""


class WorkspaceResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Settings and workspace of this installation, read anew in every process."""

    @property
    def settings(self) -> settings_module.Settings:
        """The settings in force."""
        return settings_module.load()

    @property
    def workspace(self) -> Workspace:
        """The folder of all outputs."""
        return Workspace(self.settings.home)


def asset_key(*parts: str) -> dg.AssetKey:
    """The Dagster key of an output, behind the configured prefix."""
    return dg.AssetKey([*settings_module.load().key_prefix, *parts])


@contextmanager
def explained() -> Iterator[None]:
    """Turn a typed error into a Dagster failure that shows its message and is not retried."""
    try:
        yield
    except EinthovenError as error:
        raise dg.Failure(description=str(error), metadata={"error": type(error).__name__}, allow_retries=False) from error


def require(workspace: Workspace, *keys: Key) -> dict[str, Output]:
    """Upstream outputs whose blocking checks have passed, by the text form of their keys.

    Raises:
        OutputError, UnsafeUpstreamError: as `require_checked`.
    """
    return {str(key): require_checked(workspace, key) for key in keys}


def versions(upstream: Mapping[str, Output]) -> dict[str, str]:
    """Data versions of upstream outputs: what an output's identity and manifest record."""
    return {name: output.data_version for name, output in upstream.items()}


def result(
    context: dg.AssetExecutionContext, output: Output, settings: settings_module.Settings, extra: Mapping[str, Any] | None = None
) -> dg.MaterializeResult[Any]:
    """The materialisation of an output: rows, hashes, code version, and its pictures where its access class allows."""
    metadata: dict[str, Any] = {
        "rows": output.rows,
        "dagster/row_count": output.rows,
        "data_version": output.data_version,
        "code_version": str(output.manifest["code_version"]),
        "access": str(output.access),
        "folder": dg.MetadataValue.path(str(output.folder)),
        "reused": output.reused,
        "upstream": dg.MetadataValue.json(output.manifest["upstream"]),
    }
    if md5 := dvc_md5(settings_module.PROJECT, output):
        metadata["dvc_md5"] = md5
    metadata |= dict(extra or {})
    if shows_content(context.instance, settings, output):
        for figure in sorted((output.folder / "figures").glob("*.png")):
            metadata[figure.stem] = picture(figure)
    else:
        metadata["pictures"] = (
            f"not shown: the data is {output.access} and Dagster's storage is configured for {settings.limit('dagster')} data"
        )
    context.log.info(
        "%s: %s rows, data version %s%s", output.key, output.rows, output.data_version[:12], ", unchanged" if output.reused else ""
    )
    return dg.MaterializeResult(metadata=metadata, data_version=dg.DataVersion(output.data_version))


def shows_content(instance: dg.DagsterInstance, settings: settings_module.Settings, output: Output) -> bool:
    """Whether signals and text of an output may stand in Dagster's event log: it is on this machine, or allowed."""
    local = any(word in type(instance.event_log_storage).__name__ for word in ("Sqlite", "InMemory"))
    return local or allows(settings.limit("dagster"), output.access)


def picture(path: Path) -> dg.MetadataValue[Any]:
    """A PNG as inline Markdown, as wide as the UI can show it: in 256 colours, or its path, where it is too large for an event."""
    from PIL import Image

    shown = io.BytesIO()
    with Image.open(path) as image:
        image.thumbnail((PICTURE_WIDTH_PIXELS, image.height))
        image.save(shown, "PNG", optimize=True)
        if len(shown.getvalue()) > PICTURE_LIMIT_BYTES:
            shown = io.BytesIO()
            image.convert("RGB").quantize(256, method=Image.Quantize.FASTOCTREE).save(shown, "PNG", optimize=True)
    if len(shown.getvalue()) > PICTURE_LIMIT_BYTES:
        return dg.MetadataValue.path(str(path))
    return dg.MetadataValue.md(f"![{path.stem}](data:image/png;base64,{base64.b64encode(shown.getvalue()).decode()})")


def dvc_md5(project: Path, output: Output) -> str | None:
    """The hash under which dvc.lock holds the folder of an output, if DVC has committed it."""
    lock = project / "dvc.lock"
    if not lock.exists():
        return None
    import yaml

    home = output.folder.parent
    for stage in (yaml.safe_load(lock.read_text()) or {}).get("stages", {}).values():
        for out in stage.get("outs", []):
            if (project / out["path"]).resolve() == home.resolve():
                return str(out["md5"])
    return None

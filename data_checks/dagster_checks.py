"""Blocking checks as Dagster asset checks, the one place where the two meet."""

import warnings
from typing import TYPE_CHECKING, Any

import dagster as dg

from assets.outputs import Key
from data_checks.checks import CHECKS, Check, run_check
from models.errors import EinthovenError

if TYPE_CHECKING:
    from assets.outputs import Output, Workspace
    from assets.verdicts import Verdict


def make_asset_checks(
    key_parts: tuple[str, ...],
    partitions_def: dg.PartitionsDefinition[Any] | None,
    dagster_key: dg.AssetKey,
    workspace_resource_key: str = "workspace",
) -> list[dg.AssetChecksDefinition]:
    """The blocking checks of an asset.

    Args:
        key_parts: the output's key without a configured prefix.
        partitions_def: of the asset; each check is judged by partition, as automation conditions need.
        dagster_key: of the asset, prefix included.
        workspace_resource_key: resource that offers `.workspace`, the folder of all outputs.
    """
    return [_asset_check(c, key_parts, partitions_def, dagster_key, workspace_resource_key) for c in CHECKS.get(key_parts[0], ())]


def _asset_check(
    check: Check,
    key_parts: tuple[str, ...],
    partitions_def: dg.PartitionsDefinition[Any] | None,
    dagster_key: dg.AssetKey,
    resource: str,
) -> dg.AssetChecksDefinition:
    with warnings.catch_warnings():
        # Partitioned checks are a preview API; without them one failed partition would hold up all others.
        warnings.simplefilter("ignore", dg.PreviewWarning)

        @dg.asset_check(
            asset=dagster_key,
            name=check.name,
            description=check.description,
            blocking=True,
            partitions_def=partitions_def,
            required_resource_keys={resource},
        )
        def asset_check(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
            workspace: Workspace = getattr(context.resources, resource).workspace
            # A run may carry the partition of another asset in it: only a partitioned asset asks for it.
            key = Key(key_parts, context.partition_key if partitions_def is not None else None)
            try:
                output = workspace.require(key)
            except EinthovenError as error:
                return _result(False, {"message": str(error)})
            verdict = run_check(workspace, output, check.name)
            context.log.log("INFO" if verdict.passed else "ERROR", f"{key}, check {check.name}: {verdict.message}")
            return _result(verdict.passed, _metadata(output, verdict))

    return asset_check


def _metadata(output: "Output", verdict: "Verdict") -> dict[str, Any]:
    details = dict(verdict.details)
    docs = details.pop("data_docs", None)
    metadata: dict[str, Any] = {
        "message": verdict.message,
        "rows_at_fault": details.pop("n_rows", 0),
        "data_version": output.data_version,
        "details": dg.MetadataValue.json(details),
    }
    return metadata | ({"data_docs": dg.MetadataValue.path(docs)} if docs else {})


def _result(passed: bool, metadata: dict[str, Any]) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        passed=passed, severity=dg.AssetCheckSeverity.ERROR, metadata=metadata, description=metadata["message"][:500]
    )

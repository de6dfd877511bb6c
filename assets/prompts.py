"""Stage prompts: what classes are called when a model is asked about them in words. A versioned asset of its own."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from assets.access import strictest
from assets.materialize import WorkspaceResource, asset_key, explained, result
from assets.outputs import Built, Key, Output, Workspace, digest
from assets.settings import Supplied

CODE_VERSION = "2"


def prompts_asset() -> dg.AssetsDefinition:
    """The asset `prompts`: our own set, class names alone, and the sets that the settings name."""

    @dg.asset(
        key=asset_key("prompts"),
        group_name="data",
        code_version=CODE_VERSION,
        kinds={"json"},
        description="Prompt sets for zero-shot classification, as JSON: class code -> prompt or prompts.",
    )
    def prompts(context: dg.AssetExecutionContext, workspace: WorkspaceResource) -> dg.MaterializeResult[Any]:
        with explained():
            settings = workspace.settings
            output = make_prompts(workspace.workspace, settings.prompts)
            return result(context, output, settings, {"sets": output.facts["sets"], "first_prompts": dg.MetadataValue.md(_sample(output))})

    return prompts


def make_prompts(workspace: Workspace, configured: Mapping[str, Supplied]) -> Output:
    """Publish every prompt set."""
    from assets.text.prompts import prompt_sets

    sets = prompt_sets({name: supplied.path for name, supplied in configured.items()})

    def build(folder: Path) -> Built:
        for name, prompts in sets.items():
            (folder / f"{name}.json").write_text(json.dumps(prompts, indent=1, sort_keys=True, ensure_ascii=False))
        return Built(rows=sum(len(p) for p in sets.values()), facts={"sets": {name: len(p) for name, p in sets.items()}})

    return workspace.publish(
        Key(("prompts",)),
        build,
        code_version=CODE_VERSION,
        access=strictest(s.access for s in configured.values()),
        config={name: digest(p) for name, p in sets.items()},
    )


def _sample(output: Output, rows: int = 12) -> str:
    """The first prompts of our own set as a Markdown table."""
    prompts = json.loads(output.path("einthoven.json").read_text())
    return "| class | prompt |\n|---|---|\n" + "\n".join(f"| {code} | {prompts[code]} |" for code in list(prompts)[:rows])

"""Skeletons of a method and of a dataset: they work as written, pass the registry-driven tests, and are meant to be edited."""

from __future__ import annotations

import keyword
from importlib import resources
from pathlib import Path
from string import Template

from assets.settings import PROJECT
from models.errors import ConfigurationError


def write_method(name: str, folder: Path | None = None) -> list[Path]:
    """Write `spec.py` and `method.py` of a method into the project, or into a package of the user's own.

    Raises:
        ConfigurationError: a bad name, or something of that name is there already.
    """
    _require_name(name)
    home = (PROJECT / "models" / "methods" if folder is None else folder) / name
    package = f"models.methods.{name}" if folder is None else f"{folder.resolve().name}.{name}"
    texts = {
        "__init__.py": f'"""{_title(name)}."""\n',
        "spec.py": _fill("method_spec.py.txt", name, package),
        "method.py": _fill("method.py.txt", name, package),
    }
    return _write(home, texts, folder, f'[project.entry-points."einthoven.methods"]\n{name} = "{package}"\n')


def write_dataset(name: str, folder: Path | None = None) -> list[Path]:
    """Write one dataset file into the project, or into a package of the user's own.

    Raises:
        ConfigurationError: a bad name, or something of that name is there already.
    """
    _require_name(name)
    home = PROJECT / "assets" / "datasets" if folder is None else folder
    package = "assets.datasets" if folder is None else home.resolve().name
    texts = {f"{name}.py": _fill("dataset.py.txt", name, package)}
    return _write(home, texts, folder, f'[project.entry-points."einthoven.datasets"]\n{name} = "{package}.{name}"\n')


def _require_name(name: str) -> None:
    if not name.isidentifier() or keyword.iskeyword(name) or name != name.lower():
        raise ConfigurationError(f"{name!r} cannot be a module name; use lower-case letters, digits and underscores")


def _title(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _fill(template: str, name: str, package: str) -> str:
    text = resources.files("orchestration.templates").joinpath(template).read_text()
    camel = "".join(part.capitalize() for part in name.split("_"))
    return Template(text).substitute(name=name, title=_title(name), camel=camel, package=package)


def _write(home: Path, texts: dict[str, str], own_package: Path | None, entry_point: str) -> list[Path]:
    paths = [home / name for name in texts]
    if taken := [str(p) for p in paths if p.exists()]:
        raise ConfigurationError(f"{', '.join(taken)} exists already; choose another name")
    home.mkdir(parents=True, exist_ok=True)
    if own_package is not None:
        (own_package / "__init__.py").touch()
        note = own_package / f"{home.name if len(texts) > 1 else paths[0].stem}.entry_point.toml"
        note.write_text(
            f"# Add this to the pyproject.toml of the package and install it; Einthoven then finds it by itself.\n{entry_point}"
        )
        paths.append(note)
    for path, text in zip(paths, texts.values(), strict=False):
        path.write_text(text)
    return paths

"""Settings are read strictly; access classes flow down and hold at the border."""

from __future__ import annotations

from pathlib import Path

import pytest

from assets.access import Access, AccessError, require_destination, strictest
from assets.settings import is_local, load
from models.errors import ConfigurationError


def write(home: Path, text: str) -> None:
    (home / "settings.yaml").write_text(text)


def test_defaults_need_no_file(home: Path) -> None:
    settings = load()
    assert settings.tracking_uri == f"sqlite:///{home / 'mlflow.db'}"
    assert settings.tracking_is_local
    assert settings.dataset_folder("ptb_xl") == home / "source" / "ptb_xl"
    assert settings.limit("mlflow") is Access.OPEN


def test_everything_can_be_set(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(
        home,
        "datasets: {ptb_xl: /d}\nkey_prefix: site\nmlflow_tracking_uri: http://t\ndestinations: {mlflow: credentialed}\nprompts: {p: {path: /p.json, access: open}}\nweights: {w: /w}\n",
    )
    settings = load()
    assert settings.dataset_folder("ptb_xl") == Path("/d")
    assert settings.key_prefix == ("site",)
    assert not settings.tracking_is_local
    assert settings.limit("mlflow") is Access.CREDENTIALED
    assert settings.prompts["p"].access is Access.OPEN
    assert settings.weights["w"].access is Access.PRIVATE
    monkeypatch.setenv("EINTHOVEN_DATASET_PTB_XL", "/e")
    assert settings.dataset_folder("ptb_xl") == Path("/e")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "not valid YAML"),
        ("- x", "mapping of settings"),
        ("datasetz: {}", "unknown settings datasetz"),
        ("destinations: {s3: open}", "unknown destinations s3"),
        ("destinations: {mlflow: secret}", "classes are open, credentialed, private"),
        ("weights: {w: {access: open}}", "must be a path, or a mapping"),
        ("weights: {w: {path: /x, access: public}}", "classes are"),
    ],
)
def test_bad_settings_are_named(home: Path, text: str, message: str) -> None:
    write(home, text)
    with pytest.raises(ConfigurationError, match=message):
        load()


def test_a_settings_file_that_is_not_there_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EINTHOVEN_SETTINGS", str(home / "nowhere.yaml"))
    with pytest.raises(ConfigurationError, match=r"nowhere\.yaml"):
        load()


def test_the_strictest_class_wins() -> None:
    assert strictest([]) is Access.OPEN
    assert strictest(["open", "credentialed"]) is Access.CREDENTIALED
    assert strictest(["private", "open", "credentialed"]) is Access.PRIVATE


@pytest.mark.parametrize("limit", list(Access))
@pytest.mark.parametrize("access", list(Access))
def test_a_destination_takes_its_class_and_below(limit: Access, access: Access) -> None:
    order = ["open", "credentialed", "private"]
    if order.index(access) <= order.index(limit):
        require_destination("mlflow", limit, access, "a bundle")
    else:
        with pytest.raises(AccessError, match=r"a bundle is .* may not be sent to mlflow"):
            require_destination("mlflow", limit, access, "a bundle")


@pytest.mark.parametrize(
    ("uri", "local"),
    [
        ("sqlite:////a.db", True),
        ("/a/b", True),
        ("file:///a", True),
        ("http://h", False),
        ("s3://b", False),
        ("postgresql+psycopg2://h/d", False),
    ],
)
def test_what_counts_as_this_machine(uri: str, local: bool) -> None:
    assert is_local(uri) is local

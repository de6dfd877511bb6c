"""Image stores of pictures that are good, odd, broken and of one value: what is stored, and why the rest is not."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image

from assets.access import Access
from assets.dataset import Dataset
from assets.datasets.synthetic import Synthetic
from assets.image_store import build_image_store
from assets.images import equalised, fit, read_grey
from assets.outputs import Key, Output, Workspace
from assets.splits import fold_of
from models.image_store import open_image_store
from models.recipes import ImageRecipe

RECIPE = ImageRecipe("small", 32, 32)


def stored_by(recipe: ImageRecipe, dataset: Dataset, root: Path) -> Output:
    return Workspace(root).publish(
        Key(("cleaned", dataset.name), recipe.name),
        lambda folder: build_image_store(folder, dataset, recipe),
        code_version="1",
        access=Access.OPEN,
    )


def test_each_bad_picture_is_quarantined_with_its_reason(tmp_path: Path) -> None:
    Synthetic.make_fixture(tmp_path / "made")
    dataset = Synthetic(tmp_path / "made")
    ids = dataset.labels("chest")["record_id"].tolist()
    path = {r: dataset.folder / "images" / f"{r}.png" for r in ids}
    grey = {r: dataset.image(r) for r in ids}
    cut, flipped, no_image, empty, zeros, constant, one_bit, colour, clear, deep, palette, rgba = ids[:12]
    path[cut].write_bytes(path[cut].read_bytes()[:-400])
    data = bytearray(path[flipped].read_bytes())
    data[-14] ^= 0xFF  # the sum of the picture's chunk, which ends 12 bytes before the file
    path[flipped].write_bytes(data)
    path[no_image].write_text("<html>please log in</html>")
    path[empty].write_bytes(b"")
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(path[zeros])
    Image.fromarray(np.full((64, 64), 77, np.uint8)).save(path[constant])
    Image.new("1", (64, 64)).save(path[one_bit])
    Image.fromarray(np.dstack([grey[colour], grey[colour], 255 - grey[colour]])).save(path[colour])
    Image.fromarray(np.dstack([grey[clear]] * 3 + [np.full_like(grey[clear], 100)])).save(path[clear])
    Image.fromarray(grey[deep].astype(np.uint16) << 4).save(path[deep])
    Image.fromarray(grey[palette]).convert("P").save(path[palette])
    Image.fromarray(grey[rgba]).convert("RGBA").save(path[rgba])

    output = stored_by(RECIPE, dataset, tmp_path / "home")
    quarantine = pd.read_parquet(output.path("quarantine.parquet")).set_index("record_id")["reason"].to_dict()
    assert quarantine == {
        cut: "truncated", flipped: "checksum", no_image: "not_an_image", empty: "empty", zeros: "constant", constant: "constant",
        one_bit: "wrong_mode", colour: "colour", clear: "transparent",
    }  # fmt: skip
    assert output.facts["n_quarantined"] == 9 and output.rows == len(ids) - 9
    store = open_image_store(output.folder)
    stored = dict(zip(store.index["record_id"].to_pylist(), store.images(np.arange(len(store))), strict=True))
    for record_id in (palette, rgba, *ids[12:]):
        assert np.array_equal(stored[record_id], fit(grey[record_id], RECIPE)), record_id
    highest = int(grey[deep].max()) << 4
    assert np.array_equal(stored[deep], fit(((grey[deep].astype(np.uint16) << 4) >> (highest.bit_length() - 8)).astype(np.uint8), RECIPE))
    absent = pd.read_parquet(output.path("absent.parquet"))["record_id"]
    assert set(absent) == set(dataset.records()["record_id"]) - set(ids)


class NIH(Dataset):
    """Pictures of ChestX-ray14 as they lie on disk."""

    name = "nih"
    has_images = True

    def files(self) -> list[Path]:
        return sorted(p.relative_to(self.folder) for p in self.folder.rglob("*.png"))

    def records(self) -> pd.DataFrame:
        table = pd.read_csv(next(self.folder.glob("*.csv")), dtype=str)
        table = table.set_index("Image Index").loc[[p.name for p in self.files()]].reset_index()
        people = [f"nih:{p}" for p in table["Patient ID"]]
        found = {"record_id": table["Image Index"], "patient_id": people, "fold": [fold_of(p) for p in people]}
        return pd.DataFrame(found | {"age": table["Patient Age"].astype(float)}).assign(sex="male", site="", device="", acquired_at="")

    def image(self, record_id: str) -> NDArray[np.uint8]:
        return read_grey(self.folder / "images" / record_id)

    @classmethod
    def make_fixture(cls, folder: Path, *, seed: int = 0) -> None:
        raise NotImplementedError


def test_a_real_radiograph_is_read_equalised_and_stored(shared_data: Path, tmp_path: Path) -> None:
    dataset = NIH(Path(shutil.copytree(shared_data / "cxr-nih", tmp_path / "nih")))
    recipe = ImageRecipe("equalised_224", 224, 224, equalise=True)
    output = stored_by(recipe, dataset, tmp_path / "home")
    assert output.rows == 1 and output.facts["n_quarantined"] == 0
    stored = open_image_store(output.folder).images(np.arange(1))[0]
    plain = fit(dataset.image("00000001_000.png"), ImageRecipe("grey", 224, 224))
    assert np.array_equal(stored, equalised(plain)) and stored.max() == 255
    assert stored.std() > plain.std() and np.corrcoef(stored.ravel(), plain.ravel())[0, 1] > 0.7


@pytest.mark.parametrize("recipe", [RECIPE, ImageRecipe("e", 32, 32, equalise=True)], ids=["plain", "equalised"])
def test_the_same_pictures_give_the_same_store(tmp_path: Path, recipe: ImageRecipe) -> None:
    Synthetic.make_fixture(tmp_path / "made")
    first, second = (stored_by(recipe, Synthetic(tmp_path / "made"), tmp_path / name) for name in ("a", "b"))
    assert first.data_version == second.data_version

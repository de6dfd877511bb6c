"""Pictures as they are found: whole, deep, coloured, damaged, lying about their size; and brought to a size."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from assets.images import LARGEST_PIXELS, fit, read_grey, write_grey
from assets.record import RecordError
from models.recipes import ImageRecipe


def ramp(height: int = 40, width: int = 60) -> NDArray[np.uint8]:
    return np.linspace(0, 255, height * width).reshape(height, width).astype(np.uint8)


def reason(path: Path) -> str:
    with pytest.raises(RecordError) as caught:
        read_grey(path)
    assert str(path) in str(caught.value)
    return caught.value.reason


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, rows: bytes, depth: int = 8) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_what_is_written_is_read(tmp_path: Path, ending: str) -> None:
    path = tmp_path / "deep" / f"a.{ending}"
    write_grey(path, ramp())
    image = read_grey(path)
    assert image.dtype == np.uint8
    assert image.shape == (40, 60)
    assert np.abs(image.astype(int) - ramp()).max() <= (0 if ending == "png" else 6)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P"])
def test_equal_channels_are_grey(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(ramp()).convert(mode).save(path)
    assert np.array_equal(read_grey(path), ramp())


def test_a_coloured_jpeg_of_a_grey_picture_is_grey(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(ramp()).convert("RGB").save(path)
    assert np.abs(read_grey(path).astype(int) - ramp()).max() <= 8


def test_sixteen_bits_keep_the_top_bits_in_use(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    for used in (12, 16):
        deep = (np.arange(2400).reshape(40, 60) * (2**used - 1) // 2399).astype(np.uint16)
        Image.fromarray(deep).save(path)
        image = read_grey(path)
        assert np.array_equal(image, deep >> (used - 8))
        assert image.max() == 255


def test_few_values_of_a_deep_picture_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(ramp().astype(np.uint16)).save(path)
    assert np.array_equal(read_grey(path), ramp())


def test_reasons_of_refusal(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    assert reason(path) == "absent"
    path.write_bytes(b"")
    assert reason(path) == "empty"
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    assert reason(path) == "lfs_pointer"
    path.write_bytes(b"<html>please log in</html>")
    assert reason(path) == "not_an_image"
    Image.new("L", (8, 8), 3).save(path, format="BMP")
    assert reason(path) == "not_an_image"
    Image.fromarray(np.dstack([ramp(), ramp(), 255 - ramp()])).save(path)
    assert reason(path) == "colour"
    Image.fromarray(np.dstack([ramp()] * 4)).save(path)
    assert reason(path) == "transparent"
    Image.new("1", (8, 8)).save(path)
    assert reason(path) == "wrong_mode"
    Image.new("CMYK", (8, 8)).save(path, format="JPEG")
    assert reason(path) == "wrong_mode"
    path.unlink()
    path.mkdir()
    assert reason(path) == "unreadable"


@pytest.mark.parametrize("ending", ["png", "jpg"])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9])
def test_a_picture_that_is_cut_short_is_no_picture(tmp_path: Path, ending: str, share: float) -> None:
    path = tmp_path / f"a.{ending}"
    noise = np.random.default_rng(0).integers(0, 255, (50, 50)).astype(np.uint8)
    write_grey(path, noise)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    assert reason(path) in ("truncated", "not_an_image")


def test_a_damaged_png_is_no_picture(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    write_grey(path, np.random.default_rng(0).integers(0, 255, (50, 50)).astype(np.uint8))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    assert reason(path) == "checksum"


def test_no_flipped_bit_of_a_png_changes_a_picture_unseen(tmp_path: Path) -> None:
    path, image = tmp_path / "a.png", np.random.default_rng(0).integers(0, 255, (20, 20)).astype(np.uint8)
    write_grey(path, image)
    data = path.read_bytes()
    for place in range(8, len(data)):
        spoilt = bytearray(data)
        spoilt[place] ^= 1 << place % 8
        path.write_bytes(spoilt)
        try:
            assert np.array_equal(read_grey(path), image)
        except RecordError as error:
            assert error.reason in ("checksum", "truncated", "not_an_image", "too_large", "wrong_mode")


@pytest.mark.parametrize(("width", "height"), [(9000, 9000), (100_000, 100_000), (2**31 - 1, 2**31 - 1)])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_small_file_that_states_many_pixels_is_not_decoded(tmp_path: Path, width: int, height: int) -> None:
    assert width * height > LARGEST_PIXELS
    path = tmp_path / "a.png"
    path.write_bytes(png(width, height, b"\0"))
    assert reason(path) == "too_large"


def test_stretch_fills_the_size_whatever_the_aspect() -> None:
    image = np.zeros((100, 300), np.uint8)
    image[:, 150:] = 200
    fitted = fit(image, ImageRecipe("r", 20, 30))
    assert fitted.shape == (20, 30)
    assert fitted.dtype == np.uint8
    assert (fitted[:, :13] == 0).all()
    assert (fitted[:, 17:] == 200).all()


@pytest.mark.parametrize("shape", [(100, 300), (300, 100)])
def test_cover_keeps_the_centre_and_the_aspect(shape: tuple[int, int]) -> None:
    image = np.zeros(shape, np.uint8)
    image[shape[0] // 2 - 50 : shape[0] // 2 + 50, shape[1] // 2 - 50 : shape[1] // 2 + 50] = 100
    image[shape[0] // 2 - 10 : shape[0] // 2 + 10, shape[1] // 2 - 10 : shape[1] // 2 + 10] = 250
    fitted = fit(image, ImageRecipe("r", 50, 50, fit="cover"))
    assert (fitted[21:29, 21:29] == 250).all()
    ring = np.ones((50, 50), bool)
    ring[19:31, 19:31] = ring[[0, -1]] = ring[:, [0, -1]] = False  # edges are smoothed
    assert (fitted[ring] == 100).all()
    assert np.array_equal(fitted, fitted[::-1, ::-1])


def test_cover_of_one_shape_is_all_of_it() -> None:
    assert np.array_equal(fit(ramp(), ImageRecipe("r", 40, 60, fit="cover")), ramp())


def test_cover_of_a_strip_allocates_no_more_than_its_result() -> None:
    strip = np.tile(np.arange(4, dtype=np.uint8), (500_000, 1))  # scaled first and cropped then, this would be 12 GB
    assert fit(strip, ImageRecipe("r", 320, 320, fit="cover")).shape == (320, 320)


def test_reducing_smooths_first() -> None:
    stripes = np.tile(np.array([0, 255], np.uint8), (64, 32))
    stripes[:, 0] = 255  # or the result would have one value and be refused
    for recipe in (ImageRecipe("r", 8, 8), ImageRecipe("r", 8, 8, fit="cover")):
        fitted = fit(stripes, recipe)
        assert np.abs(fitted[:, 1:].astype(int) - 127).max() < 25


def test_equalised_contrast_is_that_of_scikit_image_on_the_stretched_picture() -> None:
    from skimage.exposure import equalize_adapthist

    image = (ramp(90, 70) // 3 + np.random.default_rng(0).integers(0, 9, (90, 70))).astype(np.uint8)
    plain = np.asarray(Image.fromarray(image).resize((32, 48), Image.Resampling.BICUBIC), np.float64)
    expected = (equalize_adapthist(plain / plain.max(), kernel_size=(6, 4), clip_limit=0.01) * 255).astype(np.uint8)
    found = fit(image, ImageRecipe("r", 48, 32, equalise=True))
    assert found.dtype == np.uint8 and np.array_equal(found, expected)
    assert found.max() == 255 and found.min() == 0 and found.std() > fit(image, ImageRecipe("r", 48, 32)).std()
    with pytest.raises(RecordError, match="same value"):
        fit(np.zeros((40, 40), np.uint8), ImageRecipe("r", 8, 8, equalise=True))


def test_a_picture_of_one_value_is_refused() -> None:
    with pytest.raises(RecordError, match="same value") as caught:
        fit(np.full((40, 40), 7, np.uint8), ImageRecipe("r", 8, 8))
    assert caught.value.reason == "constant"


def test_a_real_radiograph(shared_data: Path) -> None:
    image = read_grey(shared_data / "cxr-nih" / "images" / "00000001_000.png")
    assert image.shape == (512, 512)
    assert 20 < image.mean() < 235
    for recipe in (ImageRecipe("a", 224, 224), ImageRecipe("b", 320, 320, fit="cover")):
        fitted = fit(image, recipe)
        assert abs(fitted.mean() - image.mean()) < 1
        assert fitted.std() > 0.9 * image.std()

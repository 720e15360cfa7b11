"""Files to features, against reading each file alone."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from msclnet.images.user_files import SearchModel, embed_files, read_image

HEIGHT, WIDTH = 16, 8


def sums(images: np.ndarray, infrared: np.ndarray) -> np.ndarray:
    """Stands for a network: sums by channel, with the other sign for infrared."""
    assert images.dtype == np.uint8
    assert images.shape == (len(infrared), HEIGHT, WIDTH, 3)
    sign = np.where(infrared, -1, 1)[:, None]
    return (sign * images.astype(int).sum(axis=(1, 2))).astype(np.float32)


class Watched:
    """Remembers how many images came at a time."""

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def __call__(self, images: np.ndarray, infrared: np.ndarray) -> np.ndarray:
        self.sizes.append(len(images))
        return sums(images, infrared)


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Eleven images, the third and the last of which are none; the fifth is grey."""
    generator = np.random.default_rng(0)
    paths = [tmp_path / f"{number}.png" for number in range(11)]
    for number, path in enumerate(paths):
        pixels = generator.integers(0, 256, (30, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels[:, :, :1].repeat(3, axis=2) if number == 4 else pixels).save(path)
    paths[2].write_bytes(b"")
    paths[10].unlink()
    return paths


@pytest.mark.parametrize(
    ("batch", "sizes"), [(1, [1] * 9), (4, [4, 4, 1]), (9, [9]), (3, [3, 3, 3]), (64, [9])]
)
@pytest.mark.parametrize("infrared", [True, False])
def test_features_belong_to_the_files_that_could_be_read(
    files: list[Path], batch: int, sizes: list[int], infrared: bool
) -> None:
    embed = Watched()
    model = SearchModel(embed, HEIGHT, WIDTH, {})
    found = embed_files(files, model, infrared=infrared, batch=batch)
    assert embed.sizes == sizes
    assert found.paths == [path for number, path in enumerate(files) if number not in (2, 10)]
    alone = [
        sums(read_image(path, height=HEIGHT, width=WIDTH)[None], np.array([infrared])) for path in found.paths
    ]
    np.testing.assert_array_equal(found.features_ND, np.concatenate(alone))
    assert [each.path for each in found.unreadable] == [files[2], files[10]]
    assert found.unreadable[0].reason == "empty file"
    grey = {path for path, _ in found.doubtful} == {files[4]}
    assert grey == (not infrared)
    assert len(found.doubtful) == (8 if infrared else 1)


def test_files_of_which_none_is_readable(tmp_path: Path) -> None:
    embed = Watched()
    found = embed_files([tmp_path / "a.png"], SearchModel(embed, HEIGHT, WIDTH, {}), infrared=True)
    assert (found.paths, len(found.features_ND), embed.sizes) == ([], 0, [])
    assert len(found.unreadable) == 1


def test_images_are_given_on_before_all_are_read(files: list[Path]) -> None:
    """A later file goes away while the first three images are embedded."""

    def embed(images: np.ndarray, infrared: np.ndarray) -> np.ndarray:
        files[8].unlink(missing_ok=True)
        return sums(images, infrared)

    found = embed_files(files, SearchModel(embed, HEIGHT, WIDTH, {}), infrared=False, batch=3)
    assert files[8] in [each.path for each in found.unreadable]


def test_thermal_files_are_scaled_by_their_own_range_and_named(tmp_path: Path) -> None:
    """A 16-bit PGM, a TIFF in kelvin and an int32 TIFF: cut at 255 all of them would be white, and alike."""
    ramp = np.random.default_rng(1).random((30, 20))
    (tmp_path / "a.pgm").write_bytes(b"P5 20 30 65535 " + (30_000 + 2_000 * ramp).astype(">u2").tobytes())
    Image.fromarray((280 + 30 * ramp[::-1]).astype(np.float32)).save(tmp_path / "b.tiff")
    Image.fromarray((1_000 + 5_000 * ramp[:, ::-1]).astype(np.int32)).save(tmp_path / "c.tif")
    Image.fromarray((255 * ramp).astype(np.uint8)).save(tmp_path / "d.png")
    seen: list[np.ndarray] = []

    def embed(images: np.ndarray, infrared: np.ndarray) -> np.ndarray:
        seen.extend(images)
        return sums(images, infrared)

    paths = sorted(tmp_path.iterdir())
    found = embed_files(paths, SearchModel(embed, HEIGHT, WIDTH, {}), infrared=True)
    assert [path.name for path, _ in found.scaled] == ["a.pgm", "b.tiff", "c.tif"]
    assert [note for _, note in found.scaled if "its own range" not in note] == []
    assert all(image.std() > 10 for image in seen)
    assert np.abs(seen[0].astype(int) - seen[3]).max() <= 2

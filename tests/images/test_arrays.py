"""Opening an array of images, sound or not."""

from pathlib import Path

import numpy as np
import pytest

from msclnet.errors import UserError
from msclnet.images.table import open_array


def test_the_map_is_read_only(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, size=(2, 8, 4, 3), dtype=np.uint8)
    np.save(tmp_path / "a.npy", pixels)
    array = open_array(tmp_path / "a.npy")
    assert isinstance(array, np.memmap)
    np.testing.assert_array_equal(array, pixels)
    with pytest.raises(ValueError, match="read-only"):
        array[0] = 0


def test_missing_array(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"images_val\.npy: no such file.*dvc repro preprocess"):
        open_array(tmp_path / "images_val.npy")


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((2, 8, 4, 3), dtype=np.float32),
        np.zeros((2, 8, 4), dtype=np.uint8),
        np.zeros((2, 8, 4, 4), dtype=np.uint8),
        np.zeros((2, 3, 8, 4), dtype=np.uint8),
    ],
)
def test_array_of_another_kind(tmp_path: Path, array: np.ndarray) -> None:
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(UserError, match=r"a\.npy holds .* instead of uint8 \(N, H, W, 3\)"):
        open_array(tmp_path / "a.npy")


def damaged(kind: str, whole: bytes, tmp_path: Path) -> bytes:
    if kind == "npz":
        np.savez(tmp_path / "other.npz", a=np.zeros(4))
        return (tmp_path / "other.npz").read_bytes()
    if kind == "pickle":
        np.save(tmp_path / "other.npy", np.array([{}], dtype=object), allow_pickle=True)
        return (tmp_path / "other.npy").read_bytes()
    return {
        "empty": b"",
        "text": b"no array\n",
        "torn header": whole[:60],
        "torn pixels": whole[:-5],
        "header changed": whole.replace(b"'descr'", b"'(escr'"),
        "header unfinished": whole.replace(b"}", b"("),
        "torn npz": b"PK\x03\x04" + bytes(30),
    }[kind]


@pytest.mark.parametrize(
    "kind",
    [
        "empty",
        "text",
        "torn header",
        "torn pixels",
        "header changed",
        "header unfinished",
        "npz",
        "torn npz",
        "pickle",
    ],
)
def test_damaged_array(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((2, 8, 4, 3), dtype=np.uint8))
    path.write_bytes(damaged(kind, path.read_bytes(), tmp_path))
    with pytest.raises(UserError, match=r"a\.npy .*preprocess --force"):
        open_array(path)

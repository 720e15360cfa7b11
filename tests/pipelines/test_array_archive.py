"""Embeddings may come from somebody else's cache: damage, and pickles."""

import io
import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from msclnet.errors import UserError
from pipelines.stages.paths import read_arrays

ARRAYS = {"bnneck": np.arange(6.0).reshape(2, 3), "paths": np.array(["a", "b"])}


class Hostile:
    """Makes a folder when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def refused(path: Path) -> str:
    with pytest.raises(UserError, match=r"test\.npz is damaged .*dvc repro embed --force") as caught:
        read_arrays(path, stage="embed")
    return str(caught.value)


def test_what_numpy_writes_is_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "test.npz", **ARRAYS)
    found = read_arrays(tmp_path / "test.npz", stage="embed")
    assert found.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        np.testing.assert_array_equal(found[name], array)
    with pytest.raises(UserError, match=r"none\.npz: no such file; run `dvc repro embed`"):
        read_arrays(tmp_path / "none.npz", stage="embed")


def test_an_array_that_only_declares_its_size(tmp_path: Path) -> None:
    header = io.BytesIO()
    description = {"descr": "<f4", "fortran_order": False, "shape": (2**40, 2**10)}
    np.lib.format.write_array_header_1_0(header, description)
    with zipfile.ZipFile(tmp_path / "test.npz", "w") as archive:
        archive.writestr("bnneck.npy", header.getvalue())
    refused(tmp_path / "test.npz")


def test_a_pickle_is_not_read(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    objects = np.array([Hostile(mark)], dtype=object)
    np.savez(tmp_path / "test.npz", bnneck=objects)
    assert "allow_pickle" in refused(tmp_path / "test.npz")
    assert not mark.exists()
    pickle.loads(pickle.dumps(objects))
    assert mark.exists(), "the payload does nothing: the test shows nothing"


def test_damage_anywhere_is_told_or_harmless(tmp_path: Path) -> None:
    path = tmp_path / "test.npz"
    np.savez(path, **ARRAYS)
    whole = path.read_bytes()
    told = 0
    for place in range(0, len(whole), 5):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:
            read_arrays(path, stage="embed")
        except UserError:
            told += 1
    assert told > len(whole) // 10
    path.write_bytes(b"")
    refused(path)

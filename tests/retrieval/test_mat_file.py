"""MATLAB files: what scipy writes is read, and what would fill the memory is not."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from msclnet.errors import UserError
from msclnet.retrieval import protocols as mat_file
from msclnet.retrieval.protocols import load_mat, read_permutations

VALUES = np.arange(12.0).reshape(3, 4)
HEADER = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x0100) + b"IM"


def bomb(path: Path, unpacked: int) -> Path:
    body = zlib.compress(bytes(unpacked), 9)
    path.write_bytes(HEADER + struct.pack("<2I", mat_file.COMPRESSED, len(body)) + body)
    return path


@pytest.mark.parametrize(("form", "compressed"), [("4", False), ("5", False), ("5", True)])
def test_what_scipy_writes_is_read(tmp_path: Path, form: str, compressed: bool) -> None:
    savemat(tmp_path / "a.mat", {"values": VALUES}, format=form, do_compression=compressed)
    np.testing.assert_array_equal(load_mat(tmp_path / "a.mat")["values"], VALUES)


def test_what_unpacks_to_too_much_is_not_even_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def reading(*_: object) -> None:
        raise AssertionError("scipy was about to read it")

    path = bomb(tmp_path / "bomb.mat", 2**23)
    assert path.stat().st_size < 10_000
    monkeypatch.setattr("scipy.io.loadmat", reading)
    monkeypatch.setattr(mat_file, "MOST_UNPACKED", 2**22)
    with pytest.raises(ValueError, match="unpacks to more than 4194304 bytes"):
        load_mat(path)
    with pytest.raises(UserError, match=r"bomb\.mat is not SYSU-MM01's rand_perm_cam\.mat .*4194304 bytes"):
        read_permutations(path)
    monkeypatch.setattr(mat_file, "MOST_BYTES", 1000)
    with pytest.raises(ValueError, match="more than 1000 bytes"):
        load_mat(path)


def test_an_array_of_any_size_that_is_only_declared(tmp_path: Path) -> None:
    """The sides of a matrix, raised to 2^30 by 2^30 in the file of a small one."""
    savemat(tmp_path / "a.mat", {"values": VALUES})
    data = (tmp_path / "a.mat").read_bytes()
    sides = struct.pack("<2i", *VALUES.shape)
    assert data.count(sides) == 1
    (tmp_path / "a.mat").write_bytes(data.replace(sides, struct.pack("<2i", 2**30, 2**30)))
    with pytest.raises(ValueError, match="no MATLAB file that can be read"):
        load_mat(tmp_path / "a.mat")


def test_damage_is_a_value_error_or_harmless(tmp_path: Path) -> None:
    savemat(tmp_path / "a.mat", {"values": VALUES}, do_compression=True)
    whole = (tmp_path / "a.mat").read_bytes()
    refused = 0
    for place in range(100, len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        (tmp_path / "a.mat").write_bytes(damaged)
        try:
            load_mat(tmp_path / "a.mat")
        except ValueError:
            refused += 1
    assert refused > (len(whole) - 128) // 2

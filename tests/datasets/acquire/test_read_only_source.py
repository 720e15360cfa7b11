"""A copy of a data set that the user may read and not write, as archives on a shared disk are."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from permission_bits import obey_permission_bits, read_only
from same_files import FILES, as_folder, as_zip, contents

PACK = """
import sys
from pathlib import Path
from msclnet.datasets.acquire.pack import pack
from msclnet.datasets.acquire.place import read_place

target = Path(sys.argv[2])
pack(read_place(sys.argv[1]), target, wanted=lambda name: True, workspace=target.parent)
(Path(sys.argv[1]) if Path(sys.argv[1]).is_dir() else Path(sys.argv[1]).parent).joinpath("probe").touch()
"""


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_nothing_is_written_beside_the_users_copy(tmp_path: Path, kind: str) -> None:
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    place = as_folder(shelf / "images", FILES) if kind == "folder" else as_zip(shelf / "images.zip", FILES)
    target = tmp_path / "raw" / "images.zip"
    target.parent.mkdir()
    with read_only(shelf):
        done = subprocess.run(
            [sys.executable, "-c", PACK, str(place), str(target)],
            env=os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[3])},
            preexec_fn=obey_permission_bits,
            capture_output=True,
            text=True,
        )
    assert done.stderr.rstrip().endswith("probe'"), "the folder was to be read-only"
    assert "PermissionError" in done.stderr
    assert contents(target) == FILES

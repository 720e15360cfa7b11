"""A few files in the layout of each real data set, and the records that they are, written by hand."""

import random
import zipfile
from collections.abc import Mapping
from pathlib import Path

from msclnet.datasets.archive import open_source
from msclnet.datasets.catalogue import data_set
from msclnet.datasets.records import Choice, Record

LISTS: dict[str, dict[str, bytes]] = {
    "sysu-mm01": {"exp/train_id.txt": b"3,1", "exp/val_id.txt": b"2", "exp/test_id.txt": b"10,4"},
    "regdb": {
        "idx/train_visible_3.txt": b"Visible/23/a_23.bmp 0\nVisible/23/b_23.bmp 0\nVisible/4/a_4.bmp 1\n",
        "idx/train_thermal_3.txt": b"Thermal/4/a_4.bmp 1\nThermal/23/a_23.bmp 0\n",
        "idx/test_visible_3.txt": b"Visible/7/a_7.bmp 0\n",
        "idx/test_thermal_3.txt": b"Thermal/7/a_7.bmp 0\nThermal/7/b_7.bmp 0\n",
    },
    "llcm": {
        "idx/train_vis.txt": b"vis/0351/0351_c06_s200656_f4830_vis.jpg 1\nvis/0009/0009_c03_s1_f1_vis.jpg 0\n",
        "idx/train_nir.txt": b"nir/0351/0351_c04_s200656_f4831_nir.jpg 1\nnir/0009/0009_c09_s1_f1_nir.jpg 0\n",
        "idx/test_id.txt": b"1000,12\n",
    },
}
# Splits in the order train, val, test; then the identity as a number, camera, path.
RECORDS = {
    "sysu-mm01": [
        Record("cam1/0001/0001.jpg", 1, 1, "visible", "train"),
        Record("cam1/0001/0002.jpg", 1, 1, "visible", "train"),
        Record("cam3/0001/0001.jpg", 1, 3, "infrared", "train"),
        Record("cam2/0003/0001.jpg", 3, 2, "visible", "train"),
        Record("cam6/0002/0001.jpg", 2, 6, "infrared", "val"),
        Record("cam5/0004/0007.jpg", 4, 5, "visible", "test"),
        Record("cam4/0010/0001.jpg", 10, 4, "visible", "test"),
    ],
    "regdb": [
        Record("Visible/4/a_4.bmp", 4, 1, "visible", "train"),
        Record("Thermal/4/a_4.bmp", 4, 2, "infrared", "train"),
        Record("Visible/23/a_23.bmp", 23, 1, "visible", "train"),
        Record("Visible/23/b_23.bmp", 23, 1, "visible", "train"),
        Record("Thermal/23/a_23.bmp", 23, 2, "infrared", "train"),
        Record("Visible/7/a_7.bmp", 7, 1, "visible", "test"),
        Record("Thermal/7/a_7.bmp", 7, 2, "infrared", "test"),
        Record("Thermal/7/b_7.bmp", 7, 2, "infrared", "test"),
    ],
    "llcm": [
        Record("vis/0009/0009_c03_s1_f1_vis.jpg", 9, 3, "visible", "train"),
        Record("nir/0009/0009_c09_s1_f1_nir.jpg", 9, 9, "infrared", "train"),
        Record("nir/0351/0351_c04_s200656_f4831_nir.jpg", 351, 4, "infrared", "train"),
        Record("vis/0351/0351_c06_s200656_f4830_vis.jpg", 351, 6, "visible", "train"),
        Record("test_nir/cam1/0012/0012_c01_s1_f1_nir.jpg", 12, 1, "infrared", "test"),
        Record("test_vis/cam1/0012/0012_c01_s1_f2_vis.jpg", 12, 1, "visible", "test"),
        Record("test_vis/cam3/0012/0012_c03_s1_f2_vis.jpg", 12, 3, "visible", "test"),
        Record("test_nir/cam9/1000/1000_c09_s1_f1_nir.jpg", 1000, 9, "infrared", "test"),
    ],
}
NAMES = tuple(RECORDS)
CHOICES = {
    "sysu-mm01": Choice(validation=True),  # its lists name the identities for validation
    "regdb": Choice(validation=False, regdb_split=3),
    "llcm": Choice(validation=False),
}


def files(
    name: str, lists: Mapping[str, bytes | str] | None = None, *, more: tuple[str, ...] = ()
) -> dict[str, bytes]:
    """All files of a data set, and `more`; `lists` replace its own ones, as `{"val_id": "2"}`."""
    content = dict.fromkeys([*(record.path for record in RECORDS[name]), *more], b"pixels are not looked at")
    content |= LISTS[name]
    for stem, text in (lists or {}).items():
        (path,) = (path for path in LISTS[name] if stem in path)
        content[path] = text.encode() if isinstance(text, str) else text
    return content


def records_of(
    folder: Path,
    name: str,
    content: Mapping[str, bytes],
    *,
    archive: bool = False,
    choice: Choice | None = None,
) -> list[Record]:
    """Write the files in a shuffled order, then list them."""
    names = sorted(content)
    random.Random(5).shuffle(names)
    path = folder / ("images.zip" if archive else "images")
    if archive:
        with zipfile.ZipFile(path, "w") as opened:
            for file in names:
                opened.writestr(file, content[file])
    for file in () if archive else names:
        (path / file).parent.mkdir(parents=True, exist_ok=True)
        (path / file).write_bytes(content[file])
    return data_set(name).list_records(open_source(path), choice or CHOICES[name])

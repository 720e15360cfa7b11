"""A user's own labels: read from folders and tables, numbered, packed and split."""

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from msclnet.datasets.archive import ZipSource, open_source
from msclnet.datasets.catalogue import data_set, verify
from msclnet.datasets.folder import INDEX, draw_splits, identity_labels, index_of
from msclnet.datasets.labels import Label, camera_pattern, numbers_of, read_labels
from msclnet.datasets.packing import pack
from msclnet.datasets.records import Choice, Drawn
from msclnet.errors import UserError

DECOMPOSED, COMPOSED = "Mu\u0308ller 7", "M\u00fcller 7"


class Files:
    """A source that holds names, and the bytes of some of them."""

    def __init__(self, *names: str, **contents: bytes) -> None:
        self.contents: Mapping[str, bytes] = dict.fromkeys(names, b"") | {
            name.replace("__", "."): data for name, data in contents.items()
        }

    def names(self) -> list[str]:
        return sorted(self.contents)

    def read(self, name: str) -> bytes:
        return self.contents[name]


def labels_of(*names: str, pattern: str = "", table: str = "", **contents: Any) -> dict[str, Label]:
    found = read_labels(Files(*names, **contents), table=table, pattern=pattern)
    return {label.path: label for label in found}


def people(count: int, *, start: int = 1) -> list[str]:
    numbers = range(start, start + count)
    return [f"{m}/p{n:03d}/{k}.png" for m in ("visible", "infrared") for n in numbers for k in (1, 2)]


def test_folders_name_identity_modality_and_camera() -> None:
    found = labels_of(
        f"set/Visible/{DECOMPOSED}/c1/a.JPG",
        f"set/visible/{DECOMPOSED}/c1/deeper/b.webp",
        f"set/infrared/{COMPOSED}/a.tiff",
        "set/infrared/0012/c2/photo.heic",
        "set/infrared/0012/c2/notes.txt",
        "set/infrared/.trash/c2/a.png",
        "set/infrared/0012/c2/._a.png",
    )
    assert {path: (label.identity, label.modality, label.camera) for path, label in found.items()} == {
        f"set/Visible/{DECOMPOSED}/c1/a.JPG": (COMPOSED, "visible", "c1"),
        f"set/visible/{DECOMPOSED}/c1/deeper/b.webp": (COMPOSED, "visible", "c1"),
        f"set/infrared/{COMPOSED}/a.tiff": (COMPOSED, "infrared", "infrared"),
        "set/infrared/0012/c2/photo.heic": ("12", "infrared", "c2"),
    }
    assert {label.split for label in found.values()} == {None}


@pytest.mark.parametrize(
    ("pattern", "camera"),
    [
        ("{camera}_*", "c1"),
        ("*_{camera}-*.jpg", "20260101"),
        ("c{camera}_*", "1"),
        ("{camera}", "c1_20260101-3.jpg"),
    ],
)
def test_a_pattern_names_the_camera(pattern: str, camera: str) -> None:
    found = labels_of("visible/a/c1_20260101-3.jpg", pattern=pattern)
    assert [label.camera for label in found.values()] == [camera]


def test_lists_give_the_splits() -> None:
    found = labels_of(
        *people(3),
        train__txt=b"p001\r\n\r\n",
        val__txt=b"\xef\xbb\xbfp002\n",
        test__txt="p003".encode("utf-16"),
    )
    assert {label.identity: label.split for label in found.values()} == {
        "p001": "train",
        "p002": "val",
        "p003": "test",
    }


TABLE = "path{s}identity{s}Modality{s}camera{s}split{s}time\n{rows}"
ROWS = (
    (f"crops/{COMPOSED}.png", "Anna", "visible", "gate", "train", "2026-11-01"),
    ("crops\\b.png", "Anna", "Infrared", "", "train", ""),
    ("./c.PNG", "007", "visible", "gate", "Test", ""),
)


@pytest.mark.parametrize("kind", [",", ";", "\t", "parquet", "utf-16"])
def test_a_table_gives_all_of_it(kind: str) -> None:
    separator = kind if len(kind) == 1 else ","
    text = TABLE.format(s=separator, rows="\n".join(separator.join(row) for row in ROWS))
    data = text.encode("utf-16" if kind == "utf-16" else "utf-8-sig")
    if kind == "parquet":
        frame = pd.read_csv(io.StringIO(text), dtype={"identity": object})
        frame["identity"] = ["Anna", "Anna", 7]
        buffer = io.BytesIO()
        frame.astype({"identity": str}).to_parquet(buffer)
        data = buffer.getvalue()
    name = "given/table.parquet" if kind == "parquet" else "given/table.csv"
    names = (f"given/crops/{DECOMPOSED}.png", "given/crops/B.png", "given/c.PNG", "given/unlisted.png")
    source = Files(*names)
    source.contents = {**source.contents, name: data}
    assert read_labels(source, table=name, pattern="") == [
        Label("given/c.PNG", "7", "visible", "gate", "test"),
        Label("given/crops/B.png", "Anna", "infrared", "infrared", "train"),
        Label(f"given/crops/{DECOMPOSED}.png", "Anna", "visible", "gate", "train"),
    ]


HEAD = "path,identity,modality,camera,split\n"
AT = "visible/p001/1.png"


@pytest.mark.parametrize(
    ("arguments", "contents", "words"),
    [
        ({}, {}, ["visible/<identity>/"]),
        ({"extra": "visible/x.png"}, {}, ["visible/x.png is in no identity's folder"]),
        ({"pattern": "{camera}_*"}, {}, ["download.folder.pattern", AT, "visible/p001/2.png are"]),
        ({"pattern": "*_{time}"}, {}, ["download.folder.pattern", "'*_{time}'", "{camera}_*"]),
        ({}, {"train__txt": "p001"}, ["1 identities have no split", "p002"]),
        ({}, {"train__txt": "p001\np002", "test__txt": "p002"}, ["'p002'", "test.txt", "train.txt"]),
        ({}, {"train__txt": "p001\np009\np002"}, ["p009", "without an image"]),
        ({"table": "t.csv"}, {"other__csv": HEAD}, ["download.folder.table", "'t.csv'", "other.csv"]),
        (
            {"table": "t.csv"},
            {"t__csv": "path,person\n"},
            ["no column identity and modality", "path, person"],
        ),
        ({"table": "t.csv"}, {"t__csv": HEAD}, ["t.csv has no line"]),
        ({"table": "t.csv"}, {"t__csv": f"{HEAD}{AT},,visible,,\n"}, ["t.csv line 2 has no identity"]),
        ({"table": "t.csv"}, {"t__csv": f"{HEAD}{AT},a,thermal,,\n"}, ["line 2", "'thermal'", "infrared"]),
        ({"table": "t.csv"}, {"t__csv": f"{HEAD}{AT},a,visible,,dev\n"}, ["line 2", "'dev'", "val"]),
        ({"table": "t.csv"}, {"t__csv": f"{HEAD}gone.png,a,visible,,\n"}, ["gone.png is not there"]),
        ({"table": "t.csv"}, {"t__csv": HEAD + f"{AT},a,visible,,\n{AT},b,visible,,\n"}, ["line 3", AT]),
        (
            {"table": "t.csv"},
            {"t__csv": f"{HEAD}{AT},a,visible,,train\nvisible/p001/2.png,a,visible,,test\n"},
            ["'a'", "train", "test"],
        ),
        ({"table": "t.csv"}, {"t__csv": HEAD.encode() + b"M\xfcller.png,a,visible,,"}, ["UTF-8"]),
        ({"table": "t.parquet"}, {"t__parquet": "no table"}, ["t.parquet cannot be read as a table"]),
    ],
)
def test_a_mistake_is_named(
    arguments: dict[str, Any], contents: dict[str, str | bytes], words: list[str]
) -> None:
    names = people(2) if arguments or contents else ["a.png", "visible.png"]
    names += [arguments.pop("extra")] if "extra" in arguments else []
    encoded: dict[str, Any] = {
        name: data.encode() if isinstance(data, str) else data for name, data in contents.items()
    }
    if arguments.get("pattern") == "{camera}_*":
        names = [*people(1)[:2], "visible/p002/c1_1.png"]
    with pytest.raises(UserError) as caught:
        labels_of(*names, **arguments, **encoded)
    assert [word for word in words if word not in str(caught.value)] == []


@pytest.mark.parametrize("pattern", ["", "*", "{camera}/{camera}", "{camera", "{camera}/{identity}"])
def test_a_pattern_holds_the_camera_once(pattern: str) -> None:
    with pytest.raises(UserError, match=r"download\.folder\.pattern"):
        camera_pattern(pattern)


@pytest.mark.parametrize(
    ("labels", "numbers"),
    [
        (["10", "9", "0"], {"0": 0, "9": 9, "10": 10}),
        (["cam4", "cam1", "ir03"], {"cam1": 1, "cam4": 4, "ir03": 3}),
        (["a1", "b1"], {"a1": 1, "b1": 2}),
        (["c1_2", "c2_2"], {"c1_2": 1, "c2_2": 2}),
        (["Zoe", "Anna", COMPOSED], {"Anna": 1, COMPOSED: 2, "Zoe": 3}),
    ],
)
def test_numbers_of_labels(labels: list[str], numbers: dict[str, int]) -> None:
    assert numbers_of(labels) == numbers


def packed(tmp_path: Path, names: list[str], **contents: bytes) -> ZipSource:
    """What the stage `download` makes of a folder with these files."""
    for name in names:
        (tmp_path / "own" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "own" / name).write_bytes(name.encode())
    for name, data in contents.items():
        (tmp_path / "own" / name.replace("__", ".")).write_bytes(data)
    labels = read_labels(open_source(tmp_path / "own"), table="", pattern="")
    chosen = {label.path for label in labels}
    archive = tmp_path / "images.zip"
    pack(tmp_path / "own", archive, wanted=chosen.__contains__, added={INDEX: index_of(labels)})
    return ZipSource(archive)


def choice(*, validation: bool = True, seed: int = 0, val: float = 0.15, test: float = 0.25) -> Choice:
    return Choice(validation=validation, drawn=Drawn(seed=seed, val=val, test=test))


def test_the_archive_holds_the_images_and_what_is_known_of_them(tmp_path: Path) -> None:
    source = packed(tmp_path, [*people(20), "visible/alone/1.png", "readme.txt"])
    assert set(source.names()) == {*people(20), "visible/alone/1.png", INDEX}
    assert source.read("visible/p003/1.png") == b"visible/p003/1.png"
    dataset = data_set("folder")
    counted = verify(source, dataset)
    assert [(c.part, c.modality, c.identities, c.images) for c in counted.counts] == [
        ("all", "visible", 21, 41),
        ("all", "infrared", 20, 40),
    ]
    labels = identity_labels(source)
    records = dataset.list_records(source, choice())
    assert {record.path: labels[record.identity] for record in records} == {
        path: path.split("/")[1] for path in source.names() if path != INDEX
    }
    by_split = {
        split: {labels[r.identity] for r in records if r.split == split} for split in ("train", "val", "test")
    }
    assert {split: len(identities) for split, identities in by_split.items()} == {
        "train": 13,
        "val": 3,
        "test": 5,
    }
    assert set.union(*by_split.values()) == set(labels.values())
    assert "alone" in by_split["train"]
    with zipfile.ZipFile(tmp_path / "images.zip") as archive:
        assert archive.testzip() is None


@pytest.mark.parametrize("validation", [True, False])
def test_given_splits_are_kept(tmp_path: Path, validation: bool) -> None:
    source = packed(tmp_path, people(4), train__txt=b"p004\np001", val__txt=b"p002", test__txt=b"p003")
    records = data_set("folder").list_records(source, choice(validation=validation))
    assert {record.identity: record.split for record in records} == {
        1: "train",
        2: "val" if validation else "train",
        3: "test",
        4: "train",
    }


def test_a_draw_follows_the_seed_and_hardly_changes_when_people_are_added() -> None:
    few, many = ([f"person {n}" for n in range(count)] for count in (100, 110))
    first = draw_splits(few, choice())
    assert sorted(first.values()).count("test") == 25
    assert sorted(first.values()).count("val") == 15
    assert draw_splits(reversed(few), choice()) == first
    assert draw_splits(few, choice(seed=1)) != first
    grown = draw_splits(many, choice())
    moved = np.mean([first[name] != grown[name] for name in few])
    assert moved <= 0.06
    assert "val" not in draw_splits(few, choice(validation=False)).values()


@pytest.mark.parametrize(("count", "enough"), [(0, False), (3, False), (4, True)])
def test_a_split_needs_two_people_to_train_on(count: int, enough: bool) -> None:
    names = [f"p{n}" for n in range(count)]
    if enough:
        assert sorted(draw_splits(names, choice()).values()) == ["test", "train", "train", "val"]
        return
    with pytest.raises(UserError, match=rf"{count} identities .* preprocess\.folder_split\.test"):
        draw_splits(names, choice())

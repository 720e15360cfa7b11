"""What file names and tables say of images."""

from datetime import datetime
from pathlib import Path

import pytest
from small_galleries import day, photo

from msclnet.errors import UserError
from msclnet.gallery.sources import NamePattern, folder_sources, parse_time, table_sources


@pytest.mark.parametrize(
    ("pattern", "path", "values"),
    [
        ("{camera}_*.jpg", "/a/c1_007.jpg", {"camera": "c1"}),
        (
            "{camera}_{time:%Y%m%d}_*",
            "/a/north_gate_20261105_3.png",
            {"camera": "north_gate", "time": day(5)},
        ),
        (
            "{camera}_{time:%Y%m%dT%H%M%S}_*.jpg",
            "/a/c1_20261105T083001_x_y.jpg",
            {"camera": "c1", "time": datetime(2026, 11, 5, 8, 30, 1)},
        ),
        ("{camera}/{identity}/*", "/a/c 1/0042/x.jpg", {"camera": "c 1", "identity": "0042"}),
        (
            "{floor}-{modality}.{camera}.png",
            "/a/2-infrared.c+.png",
            {"floor": "2", "modality": "infrared", "camera": "c+"},
        ),
    ],
)
def test_names_that_fit(pattern: str, path: str, values: dict) -> None:
    assert NamePattern(pattern).values(Path(path)) == values


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("{camera}_*.jpg", "/a/c1-007.jpg"),
        ("{camera}_*.jpg", "/a/c1_007xjpg"),
        ("{camera}/*.jpg", "/c1.jpg"),
        ("{time:%Y%m%d}.jpg", "/a/20261399.jpg"),
    ],
)
def test_names_that_do_not_fit(pattern: str, path: str) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        NamePattern(pattern).values(Path(path))


@pytest.mark.parametrize(
    "pattern",
    ["*.jpg", "{camera}{camera}", "{path}", "{vector}_*", "{time}", "{camera:%Y}", "{two words}", "{}"],
)
def test_wrong_patterns_are_named(pattern: str) -> None:
    with pytest.raises(UserError) as caught:
        NamePattern(pattern)
    assert f"--pattern {pattern}" in str(caught.value)
    assert "{camera}" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-11-05", day(5)),
        ("2026-11-05 08:30", datetime(2026, 11, 5, 8, 30)),
        ("2026-11-05T08:30:00+02:00", datetime(2026, 11, 5, 6, 30)),
        ("2026-11-05T08:30:00Z", datetime(2026, 11, 5, 8, 30)),
    ],
)
def test_times(text: str, time: datetime) -> None:
    assert parse_time(text) == time


def test_rows_of_a_table(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text(
        "camera,path,time,modality,floor\n"
        "007,a.png,2026-11-05,infrared,1\n"
        ",/abs/b.png,,,\n"
        "c1,d.png,yesterday,,2\n"
        "c1,e.png,,thermal,2\n",
        encoding="utf-8-sig",
    )
    found = table_sources(table, tmp_path)
    assert {source.path: source.given for source in found.images} == {
        f"{tmp_path}/a.png": {"camera": "007", "time": day(5), "modality": "infrared", "floor": 1},
        "/abs/b.png": {},
    }
    reasons = {each.path.name: each.reason for each in found.refused}
    assert set(reasons) == {"d.png", "e.png"}
    assert "yesterday" in reasons["d.png"]
    assert "thermal" in reasons["e.png"]
    assert [(column.name, str(column.type)) for column in found.others] == [("floor", "int64")]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no such file"),
        ("", "not readable"),
        ("file,camera\na,b\n", "no column `path`"),
        ("path,crop\na,b\n", "'crop'"),
        ("path,two words\na,b\n", "'two words'"),
        ("path,camera,camera\na,b,c\n", "'camera'"),
        ("path,camera\na,b,c\n", "not readable"),
        (b"path\n\xff\n", "not readable"),
    ],
)
def test_wrong_tables_are_named(tmp_path: Path, content: str | bytes | None, words: str) -> None:
    table = tmp_path / "t.csv"
    if content is not None:
        table.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(UserError) as caught:
        table_sources(table, tmp_path)
    assert str(table) in str(caught.value)
    assert words in str(caught.value)


def test_a_folder_is_searched_at_any_depth(tmp_path: Path) -> None:
    inside = photo(tmp_path / "in/c1/b c.png", 0)
    (tmp_path / "in/notes.txt").touch()
    found = folder_sources(tmp_path / "in", pattern="{camera}/*", given={"modality": "visible"})
    assert [(each.path, each.given) for each in found.images] == [
        (str(inside), {"camera": "c1", "modality": "visible"})
    ]
    with pytest.raises(UserError, match="nowhere: no such folder"):
        folder_sources(tmp_path / "nowhere")

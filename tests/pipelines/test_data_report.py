"""The data report against counts made by hand."""

import hashlib
import re
from pathlib import Path

import numpy as np
import pytest

from msclnet.datasets.records import SPLITS, Modality, Record, Split
from msclnet.images.duplicates import measure
from msclnet.images.table import Entry
from pipelines.stages import paths
from pipelines.stages.data_report import find_groups, write_data_report

# Split, identity, camera, modality and the picture that it shows.
PLAN: tuple[tuple[Split, int, int, Modality, str], ...] = (
    ("train", 1, 1, "visible", "a"),
    ("train", 1, 1, "visible", "a"),
    ("train", 1, 3, "infrared", "b"),
    ("train", 2, 1, "visible", "c"),
    ("train", 3, 1, "visible", "d"),
    ("train", 3, 3, "infrared", "c"),
    ("val", 4, 1, "visible", "e"),
    ("val", 4, 3, "infrared", "f"),
    ("test", 5, 1, "visible", "g"),
    ("test", 5, 3, "infrared", "b"),
)


def pixels(name: str) -> np.ndarray:
    rng = np.random.default_rng(ord(name))
    return np.kron(rng.integers(0, 256, (9, 6, 3)), np.ones((8, 8, 1))).astype(np.uint8)


@pytest.fixture
def entries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Entry]:
    """The planned images, with their arrays in data/processed."""
    monkeypatch.chdir(tmp_path)
    paths.PROCESSED.mkdir(parents=True)
    made = []
    for split in SPLITS:
        images = []
        for number, (_, identity, camera, modality, name) in enumerate(p for p in PLAN if p[0] == split):
            image = pixels(name)
            images.append(image)
            record = Record(f"{split}/{number}.png", identity, camera, modality, split)
            measures = measure(image, height=100 + number, width=50)
            made.append(Entry(record, hashlib.sha256(image.tobytes()).hexdigest(), measures))
        np.save(paths.images_of(split), np.stack(images))
    return made


def written(entries: list[Entry], **arguments) -> str:
    found = find_groups(entries)
    refused = [(Record("bad <1>.png", 9, 1, "visible", "train"), "empty file")]
    write_data_report(entries, refused, dataset="Own images", labels={2: "Zoë"}, found=found)
    return paths.PREPROCESS_PAGE.read_text()


def table(page: str, title: str) -> list[list[str]]:
    """The cells of the first table after a heading."""
    body = page.partition(f"<h2>{title}</h2>")[2].partition("<tbody>")[2].partition("</tbody>")[0]
    return [
        re.findall(r"<td[^>]*>(.*?)</td>", row, re.DOTALL) for row in re.findall(r"(?s)<tr>.*?</tr>", body)
    ]


def test_groups_are_those_of_the_plan(entries: list[Entry]) -> None:
    assert [(group.kind, group.same_file, group.names) for group in find_groups(entries)] == [
        ("in several splits", True, ["train: train/2.png", "test: test/1.png"]),
        ("under several identities", True, ["train: train/3.png", "train: train/5.png"]),
        ("of one identity", True, ["train: train/0.png", "train: train/1.png"]),
    ]


def test_the_page_counts_images_and_lists_what_is_suspicious(entries: list[Entry]) -> None:
    page = written(entries)
    assert [row[:5] for row in table(page, "Images by split, modality and camera")] == [
        ["train", "visible", "1", "3", "4"],
        ["train", "infrared", "3", "2", "2"],
        ["val", "visible", "1", "1", "1"],
        ["val", "infrared", "3", "1", "1"],
        ["test", "visible", "1", "1", "1"],
        ["test", "infrared", "3", "1", "1"],
    ]
    first = table(page, "Images by split, modality and camera")[0]
    heights = np.percentile([100, 101, 103, 104], (5, 50, 95))
    assert first[5] == " / ".join(f"{value:.0f}" for value in heights)
    assert table(page, "The same picture several times") == [
        ["in several splits", "1", "0"],
        ["under several identities", "1", "0"],
        ["of one identity", "1", "0"],
    ]
    assert table(page, "Refused files") == [["bad &lt;1&gt;.png", "empty file"]]
    assert [row[:5] for row in table(page, "Images by identity")] == [
        ["1", "1", "train", "2", "1"],
        ["Zoë", "2", "train", "1", "0"],
        ["3", "3", "train", "1", "1"],
        ["4", "4", "val", "1", "1"],
        ["5", "5", "test", "1", "1"],
    ]
    assert "Images: 10. Identities: 5; with images of one modality only: 1." in page
    assert "Refused files: 1." in page
    # Three groups, one identity with one modality, six extremes: each has its picture within the page.
    assert page.count('src="data:image/jpeg;base64,') == page.count("<img ") == 10
    assert written(entries) == page


def test_no_suspicion_no_section(entries: list[Entry]) -> None:
    sound = [entry for entry in entries if entry.record.path in ("train/0.png", "train/2.png")]
    write_data_report(sound, [], dataset="Own images", labels={}, found=find_groups(sound))
    page = paths.PREPROCESS_PAGE.read_text()
    assert "In several splits" not in page
    assert "one modality</h2>" not in page
    assert "None." in page

"""What is there of LLCM, and its published numbers."""

import re
from functools import partial

from msclnet.data.lists import LINE, Listed, read_identities
from msclnet.data.llcm import (
    CAMERAS,
    FOLDERS,
    LAYOUT,
    TEST_IDENTITIES,
    TEST_LISTS,
    TRAIN_LISTS,
    check_lists,
    present,
    read_list,
    tested_images,
)
from msclnet.data.records import Modality
from msclnet.data.source import Source
from msclnet.data.survey.absent import absent
from msclnet.data.survey.findings import Difference, Number, Published, Survey
from msclnet.data.tree import Tree

TEST_IMAGES: dict[Modality, int] = {"visible": 8_680, "infrared": 7_166}
PUBLISHED = Published(
    lists={
        TRAIN_LISTS["visible"]: (None, 16_946),
        TRAIN_LISTS["infrared"]: (None, 13_975),
        TEST_IDENTITIES: (351, None),
    },
    images=(
        Number(("train",), identities=713),
        Number(("train",), "visible", images=16_946, folder="vis"),
        Number(("train",), "infrared", images=13_975, folder="nir"),
        Number(("test",), identities=351),
        Number(("test",), "visible", images=TEST_IMAGES["visible"]),
        Number(("test",), "infrared", images=TEST_IMAGES["infrared"]),
    ),
)
CAMERA_IN_NAME = re.compile(r"[0-9]+_c0?([1-9])_")


def survey(source: Source) -> Survey:
    """Compare the lists with the folders."""
    tree = Tree(source, LAYOUT)
    _, image = LAYOUT.patterns
    holding = {name.rsplit("/", 2)[0].casefold() for name in tree.names if image.fullmatch(name)}
    expected = [*FOLDERS.values()]
    for modality, folder in FOLDERS.items():
        expected += [f"test_{folder}/cam{camera}" for camera in CAMERAS[modality]]
    found = Survey(LAYOUT.title, {folder: folder in holding for folder in expected})
    train: dict[Modality, list[Listed]] = {
        modality: found.read(tree, name, partial(read_list, tree, modality))
        for modality, name in TRAIN_LISTS.items()
    }
    tested = found.read(tree, TEST_IDENTITIES, partial(read_identities, tree, TEST_IDENTITIES))
    with found.noting("lists in idx"):
        check_lists(train, tested)

    found.parts["train"] = [
        image for modality, lines in train.items() for image in present(tree, lines, modality)
    ]
    found.parts["test"] = list(tested_images(tree, set(tested)))
    for modality, lines in train.items():
        found.absent += absent(tree, lines, folder=FOLDERS[modality])
    found.absent += _absent_from_test(tree, found, tested)
    return found


def _absent_from_test(tree: Tree, found: Survey, tested: list[int]) -> list[Difference]:
    there = found.parts["test"]
    differences = []
    if there and (absent := sorted(set(tested) - {image.identity for image in there})):
        listed = len(set(tested))
        differences.append(
            Difference(
                f"identities of {TEST_IDENTITIES}",
                f"{listed - len(absent)} with a folder in test_vis or test_nir",
                f"{listed}",
                tuple(f"{identity:04d}" for identity in absent),
            )
        )
    for modality, folder in FOLDERS.items():
        names = {image.path.rpartition("/")[2].casefold() for image in there if image.modality == modality}
        # These lists are not needed. Where images lack by the published number, they name them.
        if not 0 < len(names) < TEST_IMAGES[modality] or tree.find(TEST_LISTS[modality]) is None:
            continue
        lines = (LINE.fullmatch(line) for line in tree.text(TEST_LISTS[modality]).splitlines())
        files = {re.split(r"[/\\]", line["path"])[-1] for line in lines if line}
        absent_files = sorted(
            file
            for file in files
            if file.casefold() not in names and found.folders.get(_folder(file, folder), True)
        )
        if absent_files:
            differences.append(
                Difference(
                    f"images of {TEST_LISTS[modality]}",
                    f"{len(files) - len(absent_files):,} in test_{folder}",
                    f"{len(files):,}",
                    tuple(absent_files),
                )
            )
    return differences


def _folder(file: str, folder: str) -> str:
    match = CAMERA_IN_NAME.match(file)
    return f"test_{folder}/cam{match[1]}" if match else ""

"""LLCM: layout on disk, lists, published numbers and survey.

    vis/<identity>/  nir/<identity>/0351_c06_s200656_f4830_nir.jpg      camera 6 by the file's name
    test_vis/cam1..cam9/<identity>/  test_nir/cam1,2,4..9/<identity>/   camera 3 has no near-infrared
    idx/train_vis.txt train_nir.txt      lines: vis/0351/0351_c06_s200656_f4830_vis.jpg 17
    idx/test_id.txt                      identities, comma-separated

Training images are those of the two lists, test images those below test_vis and test_nir whose identity is in
test_id.txt, as in the authors' code. idx/test_vis.txt and idx/test_nir.txt are not read for it. Identities are
read from the folders, whose numbers training and test share; that the labels mean the same persons is checked.
The form of names and lines is that which public code reads; it could not be compared with the real files.

Zhang and Wang, Diverse Embedding Expansion Network and Low-Light Cross-Modality Benchmark for Visible-Infrared
Person Re-identification, CVPR 2023: 1,064 identities; given by its authors to researchers who sign a form.
"""

import re
from collections.abc import Collection, Iterator
from functools import partial
from itertools import chain

from msclnet.datasets.archive import Source
from msclnet.datasets.layout import EXTENSION, IMAGE_FILE, Image, Layout, Tree
from msclnet.datasets.lists import (
    LINE,
    Listed,
    check_apart,
    check_labels,
    present,
    read_identities,
    read_index,
)
from msclnet.datasets.records import Choice, Modality, Record, held_out, in_order
from msclnet.datasets.survey import Difference, Number, Published, Survey, absent, absent_identities

FOLDERS: dict[Modality, str] = {"visible": "vis", "infrared": "nir"}
CAMERAS: dict[Modality, tuple[int, ...]] = {
    "visible": (1, 2, 3, 4, 5, 6, 7, 8, 9),
    "infrared": (1, 2, 4, 5, 6, 7, 8, 9),
}
TRAIN_LISTS: dict[Modality, str] = {name: f"idx/train_{folder}.txt" for name, folder in FOLDERS.items()}
TEST_LISTS: dict[Modality, str] = {name: f"idx/test_{folder}.txt" for name, folder in FOLDERS.items()}
TEST_IDENTITIES = "idx/test_id.txt"
TEST_IMAGE = rf"test_(?P<folder>vis|nir)/cam(?P<camera>[1-9])/(?P<identity>[0-9]{{1,6}})/{IMAGE_FILE}"
LAYOUT = Layout(
    title="LLCM",
    lists=r"idx/(?:(?:train|test)_(?:vis|nir)|test_id)\.txt",
    images=rf"(?:vis|nir)/[0-9]{{1,6}}/{IMAGE_FILE}|{TEST_IMAGE}",
)
ACCESS = (
    "LLCM is given by its authors to researchers who send them a signed copy of its release agreement; the form and "
    "the address are in the repository ZYK100/LLCM on GitHub. "
    "Expected are the files of its archive as they are: the folders vis and nir (vis/<identity>/*.jpg), test_vis/cam1 "
    "to cam9 and test_nir/cam1 to cam9 without cam3 (test_vis/camK/<identity>/*.jpg), and idx with train_vis.txt, "
    "train_nir.txt and test_id.txt."
)


def list_records(source: Source, choice: Choice) -> list[Record]:
    """Training and test images, sorted by split, identity, camera and path.

    With validation, every tenth training identity is held out (see `held_out`). Listed images that are not there are
    left out: verification names them. UserError where lists are missing, wrong or contradict each other, or no image
    is there.
    """
    tree = Tree(source, LAYOUT)
    train: dict[Modality, list[Listed]] = {modality: read_list(tree, modality) for modality in FOLDERS}
    tested = set(read_identities(tree, TEST_IDENTITIES))
    check_lists(train, tested)
    validating = set[int]()
    if choice.validation:
        validating = held_out((line.identity for line in chain(*train.values())), title="LLCM")
    records = [
        Record(*image, "val" if image.identity in validating else "train")
        for modality, lines in train.items()
        for image in present(tree, lines, modality)
    ]
    records += [Record(*image, "test") for image in tested_images(tree, tested)]
    if not records:
        raise tree.nothing(
            "none of the listed images vis/<identity>/ and nir/<identity>/ is there, nor any in test_vis and test_nir"
        )
    return in_order(records)


def read_list(tree: Tree, modality: Modality) -> list[Listed]:
    """Lines of a training list, all of them images of its modality."""
    folder = FOLDERS[modality]
    # Only the file's own name has the camera: the folders above may hold `_c06_` too.
    file = rf"[0-9]+_c0?(?P<camera>[1-9])_[^/]*{EXTENSION}"
    pattern = re.compile(rf"{folder}/(?P<identity>[0-9]{{1,6}})/{file}", re.IGNORECASE)
    example = f"{folder}/0351/0351_c06_s200656_f4830_{folder}.jpg 17"
    return read_index(tree, TRAIN_LISTS[modality], pattern, example=example)


def check_lists(train: dict[Modality, list[Listed]], tested: Collection[int]) -> None:
    """Raise a UserError unless the lists fit together."""
    check_labels(chain(*train.values()), title="LLCM")
    named = ((identity, TEST_IDENTITIES) for identity in sorted(tested))
    check_apart(chain(*train.values()), named, title="LLCM")


def tested_images(tree: Tree, tested: Collection[int]) -> Iterator[Image]:
    """Images below test_vis and test_nir of the given identities; the camera is the folder's."""
    pattern = re.compile(TEST_IMAGE, re.IGNORECASE)
    for name in tree.names:
        if match := pattern.fullmatch(name):
            modality: Modality = "visible" if match["folder"].lower() == "vis" else "infrared"
            camera, identity = int(match["camera"]), int(match["identity"])
            if identity in tested and camera in CAMERAS[modality]:
                yield Image(tree.root + name, identity, camera, modality)


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
    found = Survey(tree.title, tree.root, tree.elsewhere, {folder: folder in holding for folder in expected})
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
    pictured = {image.identity for image in there}
    differences = absent_identities(TEST_IDENTITIES, tested, pictured, place="test_vis or test_nir")
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

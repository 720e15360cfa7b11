"""RegDB: layout on disk, the ten splits that public code shares, published numbers and survey.

    Visible/<identity>/*.bmp    Thermal/<identity>/*.bmp
    idx/{train,test}_{visible,thermal}_{1..10}.txt      lines: Visible/23/male_front_v_01234_23.bmp 5

The label at a line's end counts from 0 in every split's training and test lists, so that one number means different
persons in different files. The identity is therefore the folder, which is the same everywhere; that labels and
folders mean the same persons is checked.

Nguyen et al., Person Recognition System Based on a Combination of Body Images from Visible Light and Thermal
Cameras, Sensors 2017: 412 identities, ten images of each in either modality; given by Dongguk University to
researchers who sign a form.
"""

import re
from collections.abc import Iterator
from functools import partial
from itertools import chain
from typing import Literal

from msclnet.datasets.archive import Source
from msclnet.datasets.layout import IMAGE_FILE, Image, Layout, Tree
from msclnet.datasets.lists import Listed, check_apart, check_labels, present, read_index
from msclnet.datasets.records import Choice, Modality, Record, Split, held_out, in_order
from msclnet.datasets.survey import Number, Published, Survey, absent
from msclnet.errors import UserError

Side = Literal["train", "test"]
SIDES: tuple[Side, ...] = ("train", "test")
SPLIT_NUMBERS = range(1, 11)
FOLDERS: dict[Modality, str] = {"visible": "Visible", "infrared": "Thermal"}
CAMERAS: dict[Modality, int] = {"visible": 1, "infrared": 2}
BELOW = rf"/(?P<identity>[0-9]{{1,6}})/{IMAGE_FILE}"
LAYOUT = Layout(
    title="RegDB",
    lists=r"idx/(?:train|test)_(?:visible|thermal)_(?:[1-9]|10)\.txt",
    images=rf"(?P<folder>Visible|Thermal){BELOW}",
)
IMAGE = re.compile(LAYOUT.images, re.IGNORECASE)
ACCESS = (
    "RegDB is given by Dongguk University, as its Dongguk Body-based Person Recognition Database "
    "(DBPerson-Recog-DB1), to researchers who sign its form: apply at dm.dongguk.edu or, where that page does not "
    "answer, to the authors of Nguyen et al., Sensors 2017. "
    "Expected are the folders Visible and Thermal (Visible/<identity>/*.bmp) and, for the ten splits that published "
    "reports, idx with {train,test}_{visible,thermal}_{1..10}.txt, lines `<path> <label>`. A copy without idx needs "
    "these lists next to its folders: public code for RegDB includes them, and the author of AGW's (repository "
    "mangye16/Cross-Modal-Re-ID-baseline on GitHub) passes on a prepared copy on request."
)


def list_records(source: Source, choice: Choice) -> list[Record]:
    """The images of one split's lists, sorted by split, identity, camera and path.

    Camera 1 is the visible one, camera 2 the thermal one. With validation, every tenth training identity is held
    out (see `held_out`); public code has none and picks its epoch on the test set. Listed images that are not there
    are left out: verification names them. UserError where lists are missing, wrong or contradict each other, or no
    image is there.
    """
    if choice.regdb_split not in SPLIT_NUMBERS:
        raise UserError(f"RegDB: there is no split {choice.regdb_split}; choose one of 1 to 10")
    tree = Tree(source, LAYOUT)
    lists: dict[tuple[Side, Modality], list[Listed]] = {
        (side, modality): read_list(tree, side, modality, choice.regdb_split)
        for side in SIDES
        for modality in FOLDERS
    }
    check_split(lists)
    validating = set[int]()
    if choice.validation:
        training = (line.identity for modality in FOLDERS for line in lists["train", modality])
        validating = held_out(training, title="RegDB")

    def split_of(side: Side, identity: int) -> Split:
        return "val" if side == "train" and identity in validating else side

    records = [
        Record(*image, split_of(side, image.identity))
        for (side, modality), lines in lists.items()
        for image in present(tree, lines, modality, camera=CAMERAS[modality])
    ]
    if not records:
        raise tree.nothing("none of the listed images Visible/<identity>/ and Thermal/<identity>/ is there")
    return in_order(records)


def list_name(side: Side, modality: Modality, number: int) -> str:
    """Place of a list below the root."""
    return f"idx/{side}_{FOLDERS[modality].lower()}_{number}.txt"


def read_list(tree: Tree, side: Side, modality: Modality, number: int) -> list[Listed]:
    """Lines of one list, all of them images of its modality."""
    name = list_name(side, modality, number)
    folder = FOLDERS[modality]
    pattern = re.compile(folder + BELOW, re.IGNORECASE)
    return read_index(tree, name, pattern, example=f"{folder}/23/name.bmp 5")


def check_split(lists: dict[tuple[Side, Modality], list[Listed]]) -> None:
    """Raise a UserError unless the four lists of a split fit together."""
    sides = {side: list(chain(*(lists[side, modality] for modality in FOLDERS))) for side in SIDES}
    for lines in sides.values():
        check_labels(lines, title="RegDB")
    check_apart(sides["train"], ((line.identity, line.place) for line in sides["test"]), title="RegDB")


def images(tree: Tree) -> Iterator[Image]:
    """Every image on disk, whatever the lists say."""
    for name in tree.names:
        if match := IMAGE.fullmatch(name):
            modality: Modality = "visible" if match["folder"].lower() == "visible" else "infrared"
            yield Image(tree.root + name, int(match["identity"]), CAMERAS[modality], modality)


ALL_LISTS = [
    list_name(side, modality, number) for number in SPLIT_NUMBERS for side in SIDES for modality in FOLDERS
]
PUBLISHED = Published(
    lists=dict.fromkeys(ALL_LISTS, (206, 2060)),
    images=tuple(
        Number(("all",), modality, identities=412, images=4120, folder=folder)
        for modality, folder in FOLDERS.items()
    ),
)


def survey(source: Source) -> Survey:
    """Compare the lists of all ten splits with the folders: a later split is not found broken after days."""
    tree = Tree(source, LAYOUT)
    there = list(images(tree))
    seen = {image.modality for image in there}
    folders = {folder: modality in seen for modality, folder in FOLDERS.items()}
    found = Survey(tree.title, tree.root, tree.elsewhere, folders, parts={"all": there})
    listed: dict[Modality, list[Listed]] = {modality: [] for modality in FOLDERS}
    for number in SPLIT_NUMBERS:
        lists: dict[tuple[Side, Modality], list[Listed]] = {}
        for side in SIDES:
            part = found.parts.setdefault(f"{side} {number}", [])
            for modality in FOLDERS:
                name = list_name(side, modality, number)
                lines = found.read(tree, name, partial(read_list, tree, side, modality, number))
                lists[side, modality] = lines
                listed[modality] += lines
                part += present(tree, lines, modality, camera=CAMERAS[modality])
        with found.noting(f"lists of split {number}"):
            check_split(lists)
    for modality, folder in FOLDERS.items():
        found.absent += absent(tree, listed[modality], folder=folder)
    return found

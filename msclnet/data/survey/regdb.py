"""What is there of RegDB, and its published numbers."""

from functools import partial

from msclnet.data.lists import Listed
from msclnet.data.records import Modality
from msclnet.data.regdb import (
    FOLDERS,
    LAYOUT,
    SIDES,
    SPLIT_NUMBERS,
    Side,
    check_split,
    images,
    list_name,
    present,
    read_list,
)
from msclnet.data.source import Source
from msclnet.data.survey.absent import absent
from msclnet.data.survey.findings import Number, Published, Survey
from msclnet.data.tree import Tree

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
    found = Survey(LAYOUT.title, {folder: modality in seen for modality, folder in FOLDERS.items()})
    found.parts["all"] = there
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
                part += present(tree, lines, modality)
        with found.noting(f"lists of split {number}"):
            check_split(lists)
    for modality, folder in FOLDERS.items():
        found.absent += absent(tree, listed[modality], folder=folder)
    return found

"""SYSU-MM01: layout on disk, lists, published numbers and survey. The synthetic data set is written in the same one.

    cam1 cam2 cam4 cam5                    visible cameras
    cam3 cam6                              infrared cameras
    camK/<4-digit identity>/<4-digit n>.jpg
    exp/train_id.txt val_id.txt test_id.txt     identities, comma-separated

exp/available_id.txt, the three lists together, is not read.

Wu et al., RGB-Infrared Cross-Modality Person Re-Identification, ICCV 2017: 491 identities, given by its authors
to researchers who sign a form; it may not be passed on.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

from msclnet.datasets.archive import Source
from msclnet.datasets.layout import IMAGE_FILE, Image, Layout, Tree
from msclnet.datasets.lists import read_identities
from msclnet.datasets.records import SPLITS, Choice, Modality, Record, Split, in_order
from msclnet.datasets.survey import Number, Published, Survey, absent_identities
from msclnet.errors import UserError

CAMERAS: dict[int, Modality] = {
    1: "visible",
    2: "visible",
    3: "infrared",
    4: "visible",
    5: "visible",
    6: "infrared",
}
LISTS: dict[Split, str] = {split: f"exp/{split}_id.txt" for split in SPLITS}
LAYOUT = Layout(
    title="SYSU-MM01",
    lists=r"exp/(?:train|val|test|available)_id\.txt",
    images=rf"cam(?P<camera>[1-6])/(?P<identity>[0-9]{{1,6}})/{IMAGE_FILE}",
)
IMAGE = re.compile(LAYOUT.images, re.IGNORECASE)
ACCESS = (
    "SYSU-MM01 is given by its authors at Sun Yat-sen University to researchers who sign its release agreement; the "
    "form and where to send it are in the repository wuancong/SYSU-MM01 on GitHub. "
    "Expected are the files of its archive as they are: the folders cam1 to cam6 (camK/<identity>/<n>.jpg), and exp "
    "with train_id.txt, val_id.txt and test_id.txt. "
    "The official gallery permutations rand_perm_cam.mat are not among them: they come with the evaluation code in "
    "the same repository."
)


def list_records(source: Source, choice: Choice) -> list[Record]:
    """All images of the listed identities, sorted by split, identity, camera and path.

    Images of identities that no list names are left out, as the data set's own code does. Without validation, the
    identities of exp/val_id.txt train too: 395 in all, as published results are trained. UserError where a list is
    missing or wrong, or no image is there.
    """
    tree = Tree(source, LAYOUT)
    split_of = assign({split: read_identities(tree, name) for split, name in LISTS.items()})
    if not choice.validation:
        split_of |= {identity: "train" for identity, split in split_of.items() if split == "val"}
    records = [
        Record(*image, split_of[image.identity]) for image in images(tree) if image.identity in split_of
    ]
    if not records:
        raise tree.nothing("no image cam1..cam6/<identity>/<n>.jpg of a listed identity was found")
    return in_order(records)


def assign(listed: Mapping[Split, Sequence[int]]) -> dict[int, Split]:
    """The split of each identity; UserError where one is in two lists."""
    split_of: dict[int, Split] = {}
    for split, identities in listed.items():
        for identity in identities:
            if split_of.setdefault(identity, split) != split:
                raise UserError(
                    f"SYSU-MM01: identity {identity} is listed both in {LISTS[split_of[identity]]} and in "
                    f"{LISTS[split]}; every identity belongs to one split"
                )
    return split_of


def images(tree: Tree) -> Iterator[Image]:
    """Every image of the layout, also of identities that no list names."""
    for name in tree.names:
        # Only what lies below the root is read: the root itself may be called cam1.
        if match := IMAGE.fullmatch(name):
            camera = int(match["camera"])
            yield Image(tree.root + name, int(match["identity"]), camera, CAMERAS[camera])


TEST_IDENTITIES = {1: 56, 2: 56, 3: 93, 4: 94, 5: 95, 6: 96}
TEST_IMAGES = {1: 1374, 2: 1565, 3: 1883, 4: 1918, 5: 1918, 6: 1920}
PUBLISHED = Published(
    lists={LISTS["train"]: (296, None), LISTS["val"]: (99, None), LISTS["test"]: (96, None)},
    images=(
        Number(("train", "val"), "visible", images=22_258),
        Number(("train", "val"), "infrared", images=11_909),
        *(
            Number(
                ("test",),
                CAMERAS[camera],
                camera,
                identities=TEST_IDENTITIES[camera],
                images=TEST_IMAGES[camera],
                folder=f"cam{camera}",
            )
            for camera in CAMERAS
        ),
        Number(("test",), "infrared", images=3_803, note="the queries"),
    ),
)


def survey(source: Source) -> Survey:
    """Compare the lists with the folders.

    On disk are 22 further identities that no list names; they are no difference. An identity that one camera or
    one modality never saw is none either: it need only have been seen by two cameras.
    """
    tree = Tree(source, LAYOUT)
    there = list(images(tree))
    seen = {image.camera for image in there}
    folders = {f"cam{camera}": camera in seen for camera in CAMERAS}
    found = Survey(tree.title, tree.root, tree.elsewhere, folders)
    lists: dict[Split, list[int]] = {
        split: found.read(tree, name, partial(read_identities, tree, name)) for split, name in LISTS.items()
    }
    with found.noting("lists in exp"):
        assign(lists)

    pictured = {image.identity for image in there}
    split_of: dict[int, Split] = {}
    for split, identities in lists.items():
        for identity in identities:
            split_of.setdefault(identity, split)
        found.absent += absent_identities(LISTS[split], identities, pictured, place="any of cam1 to cam6")
    found.parts = {split: [i for i in there if split_of.get(i.identity) == split] for split in SPLITS}
    return found

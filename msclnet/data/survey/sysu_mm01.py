"""What is there of SYSU-MM01, and its published numbers."""

from functools import partial

from msclnet.data.lists import read_identities
from msclnet.data.records import SPLITS, Split
from msclnet.data.source import Source
from msclnet.data.survey.findings import Difference, Number, Published, Survey
from msclnet.data.sysu_mm01 import CAMERAS, LAYOUT, LISTS, assign, images
from msclnet.data.tree import Tree

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
    found = Survey(LAYOUT.title, {f"cam{camera}": camera in seen for camera in CAMERAS})
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
        absent = sorted(set(identities) - pictured)
        if there and absent:
            listed = len(set(identities))
            found.absent.append(
                Difference(
                    f"identities of {LISTS[split]}",
                    f"{listed - len(absent)} with a folder in any of cam1 to cam6",
                    f"{listed}",
                    tuple(f"{identity:04d}" for identity in absent),
                )
            )
    found.parts = {split: [i for i in there if split_of.get(i.identity) == split] for split in SPLITS}
    return found

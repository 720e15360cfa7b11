"""SYSU-MM01's layout on disk. The synthetic data set is written in the same one.

    cam1 cam2 cam4 cam5                    visible cameras
    cam3 cam6                              infrared cameras
    camK/<4-digit identity>/<4-digit n>.jpg
    exp/train_id.txt val_id.txt test_id.txt     identities, comma-separated

Wu et al., RGB-Infrared Cross-Modality Person Re-Identification, ICCV 2017: 491 identities, given by its authors
to researchers who sign a form; it may not be passed on.
"""

import re

from msclnet.data.records import SPLITS, Modality, Record, Split
from msclnet.data.source import Source
from msclnet.errors import UserError

CAMERAS: dict[int, Modality] = {
    1: "visible",
    2: "visible",
    3: "infrared",
    4: "visible",
    5: "visible",
    6: "infrared",
}
IMAGE = re.compile(r"cam(?P<camera>[1-6])/(?P<identity>\d{1,6})/[^/]+\.(jpg|jpeg|png|bmp)", re.IGNORECASE)


def find_root(names: list[str]) -> str:
    """Prefix of the data set inside its source: empty, or a folder's name with `/` at its end.

    Raises:
        UserError: There is no exp/test_id.txt anywhere.
    """
    roots = [
        name.removesuffix("exp/test_id.txt") for name in names if f"/{name}".endswith("/exp/test_id.txt")
    ]
    if not roots:
        raise UserError(
            "SYSU-MM01: exp/test_id.txt is missing; give the folder or archive that holds cam1 to cam6 and exp"
        )
    return min(roots, key=lambda root: (root.count("/"), root))


def list_records(source: Source) -> list[Record]:
    """All images of the listed identities, sorted by split, identity, camera and path.

    Images of identities that no list names are left out, as the data set's own code does.

    Raises:
        UserError: An identity list is missing, is no list of numbers, or shares identities with another.
    """
    names = source.names()
    root = find_root(names)
    split_of: dict[int, Split] = {}
    for split in SPLITS:
        for identity in read_identities(source, f"{root}exp/{split}_id.txt", present=set(names)):
            if identity in split_of:
                raise UserError(
                    f"SYSU-MM01: identity {identity} is listed both in exp/{split_of[identity]}_id.txt and in "
                    f"exp/{split}_id.txt; every identity belongs to one split"
                )
            split_of[identity] = split
    records = []
    for name in names:
        # The camera is read from the part below the root alone: the root may be called anything.
        match = IMAGE.fullmatch(name.removeprefix(root)) if name.startswith(root) else None
        if match is None or int(match["identity"]) not in split_of:
            continue
        identity, camera = int(match["identity"]), int(match["camera"])
        records.append(Record(name, identity, camera, CAMERAS[camera], split_of[identity]))
    if not records:
        raise UserError("SYSU-MM01: no image cam1..cam6/<identity>/<n>.jpg of a listed identity was found")
    return sorted(records, key=lambda r: (SPLITS.index(r.split), r.identity, r.camera, r.path))


def read_identities(source: Source, name: str, *, present: set[str]) -> list[int]:
    """Identities of a comma-separated list; line ends and blanks do not matter.

    Raises:
        UserError: The file is missing or holds something else than numbers.
    """
    if name not in present:
        raise UserError(f"SYSU-MM01: {name} is missing; it lists the identities of a split, comma-separated")
    text = source.read(name).decode("utf-8-sig", errors="replace")
    entries = [entry for entry in re.split(r"[,\s]+", text) if entry]
    wrong = [entry for entry in entries if not entry.isascii() or not entry.isdigit()]
    if wrong:
        raise UserError(
            f"SYSU-MM01: {name} holds {wrong[0]!r}, which is no identity; expected numbers and commas"
        )
    return [int(entry) for entry in entries]

"""Writes tiny data sets in the exact layouts of SYSU-MM01, RegDB and LLCM.

Every writer says what it wrote, from its own plan and not by reading it back. With `awkward`, the replica holds what
real copies hold: people whom some cameras never saw, one image only, uppercase extensions, Windows line ends, blanks
after commas, a byte order mark, files that do not belong. Every training identity keeps two images of either modality.
"""

import random
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from msclnet.datasets.records import Modality, Record, Split

SYSU_CAMERAS: dict[int, Modality] = {
    1: "visible",
    2: "visible",
    4: "visible",
    5: "visible",
    3: "infrared",
    6: "infrared",
}


def draw(
    path: Path, *, identity: int, camera: int, modality: Modality, number: int, size: tuple[int, int]
) -> None:
    """A person of two colours before a noisy wall: the same person is alike in every picture."""
    person, scene = random.Random(identity), random.Random(hash((identity, camera, number)))
    wall = tuple(60 + 12 * camera + scene.randrange(30) for _ in range(3))
    image = Image.new("RGB", size, wall)
    pen = ImageDraw.Draw(image)
    width, height = size
    left = width // 4 + scene.randrange(-width // 12, width // 12 + 1)
    for top, bottom in ((0.1, 0.5), (0.5, 0.95)):
        colour = tuple(person.randrange(256) for _ in range(3))
        pen.rectangle((left, int(top * height), left + width // 2, int(bottom * height)), fill=colour)
    path.parent.mkdir(parents=True, exist_ok=True)
    (image.convert("L") if modality == "infrared" else image).save(path)


def write_sysu_mm01(
    root: Path,
    *,
    train: int = 12,
    val: int = 4,
    test: int = 5,
    images: int = 2,
    size: tuple[int, int] = (48, 96),
    awkward: bool = True,
    seed: int = 0,
) -> list[Record]:
    """Write cam1..cam6 and exp.

    Args:
        root: Where to; made where it is missing.
        train, val, test: Number of identities.
        images: Images of each identity and camera, at least 2 for a pipeline.
        size: Width and height in pixels.
        awkward: See above. One training identity is seen by cameras 1 and 6 alone, one test identity by camera 3
            and 4, one test identity has a single image, in camera 6.
        seed: Which numbers the identities have.

    Returns:
        The images of listed identities as records, with the splits of the lists.
    """
    numbers = random.Random(seed).sample(range(1, 534), train + val + test + 1)
    *numbers, unlisted = numbers
    members: dict[Split, list[int]] = {
        "train": numbers[:train],
        "val": numbers[train : train + val],
        "test": numbers[train + val :],
    }
    records = []
    for split, identities in members.items():
        for place, identity in enumerate(identities):
            cameras = list(SYSU_CAMERAS)
            count = images
            if awkward and (split, place) == ("train", 0):
                cameras = [1, 6]
            if awkward and (split, place) == ("test", 0):
                cameras = [3, 4]
            if awkward and (split, place) == ("test", 1):
                cameras, count = [6], 1
            for camera in cameras:
                for number in range(1, count + 1):
                    extension = "JPG" if awkward and number == 2 and camera == 2 else "jpg"
                    name = f"cam{camera}/{identity:04d}/{number:04d}.{extension}"
                    records.append(Record(name, identity, camera, SYSU_CAMERAS[camera], split))
    for record in records:
        number = int(record.path[-8:-4])
        draw(
            root / record.path,
            identity=record.identity,
            camera=record.camera,
            modality=record.modality,
            number=number,
            size=size,
        )
    exp = root / "exp"
    exp.mkdir(parents=True, exist_ok=True)
    for split, identities in members.items():
        write_identities(exp / f"{split}_id.txt", identities, awkward=awkward)
    write_identities(exp / "available_id.txt", numbers, awkward=False)
    if awkward:
        for camera in (1, 3):
            draw(
                root / f"cam{camera}/{unlisted:04d}/0001.jpg",
                identity=unlisted,
                camera=camera,
                modality=SYSU_CAMERAS[camera],
                number=1,
                size=size,
            )
        (root / "cam1" / f"{numbers[0]:04d}" / "Thumbs.db").write_bytes(b"not an image")
        (root / "cam1" / f"{numbers[0]:04d}" / "._0001.jpg").write_bytes(b"not an image")
        (root / "readme.txt").write_text("not a part of it")
    return records


def write_regdb(
    root: Path,
    *,
    identities: int = 24,
    images: int = 2,
    splits: Sequence[int] = tuple(range(1, 11)),
    size: tuple[int, int] = (32, 64),
    awkward: bool = True,
    seed: int = 0,
) -> dict[int, list[Record]]:
    """Write Visible, Thermal and idx; half of the identities train in each split.

    Args:
        root: Where to; made where it is missing.
        identities: Number of identities; 20 and more, so that validation holds somebody out.
        images: Images of each identity and modality, at least 2 for a pipeline.
        splits: Which of the ten splits have lists.
        size: Width and height in pixels.
        awkward: See above. In split 2 one test identity has a single thermal image; split 1 has backslashes in a list.
        seed: Which numbers the identities have.

    Returns:
        The images of each split as records, nobody held out.
    """
    numbers = sorted(random.Random(seed).sample(range(1, 413), identities))
    files: dict[tuple[int, Modality], list[str]] = {}
    for identity in numbers:
        for camera, modality in enumerate(("visible", "infrared"), start=1):
            folder, letter = ("Visible", "v") if modality == "visible" else ("Thermal", "t")
            for number in range(1, images + 1):
                extension = "BMP" if awkward and number == 2 and camera == 1 else "bmp"
                name = f"{folder}/{identity}/male_front_{letter}_{100 * number:05d}_{identity}.{extension}"
                draw(
                    root / name, identity=identity, camera=camera, modality=modality, number=number, size=size
                )
                files.setdefault((identity, modality), []).append(name)
    (root / "idx").mkdir(parents=True, exist_ok=True)
    written = {}
    for split in splits:
        shuffled = random.Random(split).sample(numbers, identities)
        sides: dict[Split, list[int]] = {
            "train": shuffled[: identities // 2],
            "test": shuffled[identities // 2 :],
        }
        written[split] = []
        for side, members in sides.items():
            for camera, modality in enumerate(("visible", "infrared"), start=1):
                lines = []
                for label, identity in enumerate(members):
                    names = files[identity, modality]
                    if awkward and (split, side, modality, label) == (2, "test", "infrared", 0):
                        names = names[:1]
                    for name in names:
                        # The lists keep the published lowercase extension, whatever the copy's files are called.
                        lines.append(f"{name.replace('.BMP', '.bmp')} {label}")
                        written[split].append(Record(name, identity, camera, modality, side))
                random.Random(camera).shuffle(lines)
                kind = "visible" if modality == "visible" else "thermal"
                text = "\n".join(lines) + "\n"
                if awkward and side == "train":
                    text = text.replace("\n", "\r\n")
                if awkward and (split, side, kind) == (1, "test", "thermal"):
                    text = text.replace("/", "\\")
                (root / f"idx/{side}_{kind}_{split}.txt").write_bytes(text.encode())
    return written


def write_llcm(
    root: Path,
    *,
    train: int = 12,
    test: int = 5,
    images: int = 2,
    cameras: Sequence[int] = (1, 3, 6, 9),
    size: tuple[int, int] = (32, 64),
    awkward: bool = True,
    seed: int = 0,
) -> list[Record]:
    """Write vis, nir, test_vis, test_nir and idx.

    Test images lie in vis and nir as well, as copies that training must not take.

    Args:
        root: Where to; made where it is missing.
        train, test: Number of identities; ten training identities and more, so that validation holds somebody out.
        images: Images of each identity, camera and modality, at least 2 for a pipeline.
        cameras: Which of the cameras 1 to 9 see people; 3 sees them in visible light alone, and two others besides
            3 are needed.
        size: Width and height in pixels.
        awkward: See above. One training and one test identity miss the first camera, one test identity has one
            image of either modality.
        seed: Which numbers the identities have.

    Returns:
        The images as records, nobody held out.
    """
    numbers = random.Random(seed).sample(range(1, 1065), train + test)
    sides: dict[Split, list[int]] = {"train": numbers[:train], "test": sorted(numbers[train:])}
    records = []
    lines: dict[str, list[str]] = {}
    for side, members in sides.items():
        for label, identity in enumerate(members):
            for modality in ("visible", "infrared"):
                seen = [camera for camera in cameras if (modality, camera) != ("infrared", 3)]
                count = images
                if awkward and label == 1:
                    seen = seen[1:]
                if awkward and (side, label) == ("test", 0):
                    seen, count = [seen[0 if modality == "visible" else -1]], 1
                folder = "vis" if modality == "visible" else "nir"
                for camera in seen:
                    for number in range(1, count + 1):
                        extension = "JPG" if awkward and number == 2 and camera == 6 else "jpg"
                        stem = f"{identity:04d}_c{camera:02d}_s{1000 * camera + number:06d}_f{7 * number:04d}_{folder}"
                        plain = f"{folder}/{identity:04d}/{stem}.{extension}"
                        tested = f"test_{folder}/cam{camera}/{identity:04d}/{stem}.{extension}"
                        for name in [plain] if side == "train" else [plain, tested]:
                            draw(
                                root / name,
                                identity=identity,
                                camera=camera,
                                modality=modality,
                                number=number,
                                size=size,
                            )
                        path = plain if side == "train" else tested
                        records.append(Record(path, identity, camera, modality, side))
                        listed = f"{plain.replace('.JPG', '.jpg')} {label}"
                        lines.setdefault(f"{side}_{folder}", []).append(listed)
    (root / "test_nir/cam3").mkdir(parents=True, exist_ok=True)
    (root / "idx").mkdir(parents=True, exist_ok=True)
    for name, listed in lines.items():
        end = "\r\n" if awkward and name == "train_nir" else "\n"
        (root / f"idx/{name}.txt").write_bytes((end.join(listed) + end).encode())
    write_identities(root / "idx/test_id.txt", sides["test"], awkward=awkward)
    return records


def write_identities(path: Path, identities: Sequence[int], *, awkward: bool) -> None:
    """One comma-separated line; where awkward, as editors on Windows leave it."""
    text = ", ".join(map(str, identities)) + "\r\n" if awkward else ",".join(map(str, identities)) + "\n"
    path.write_bytes(text.encode("utf-8-sig" if awkward else "utf-8"))

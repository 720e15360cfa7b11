"""The three data sets at their published counts, as file names and lists without any picture."""

from collections.abc import Iterable, Mapping, Sequence

from benchmarks.sysu_mm01 import GROUPS, Cells, Group, full_listing, image_path


class Listing:
    """A source of names: what a verification looks at of images."""

    def __init__(self, images: Iterable[str], lists: dict[str, str]) -> None:
        self.files = {**dict.fromkeys(images, ""), **lists}

    def names(self) -> list[str]:
        return sorted(self.files)

    def read(self, name: str) -> bytes:
        return self.files[name].encode()

    def without(self, *beginnings: str) -> "Listing":
        kept = {name: text for name, text in self.files.items() if not name.startswith(beginnings)}
        return Listing((), kept)

    def with_list(self, name: str, text: str) -> "Listing":
        return Listing((), {**self.files, name: text})


def dealt(total: int, receivers: int) -> list[int]:
    """A total dealt out as evenly as it goes."""
    return [total // receivers + (place < total % receivers) for place in range(receivers)]


def full_sysu(test: Cells | None = None, *, groups: Mapping[str, Sequence[Group]] = GROUPS) -> Listing:
    """SYSU-MM01 at its published counts; `test`: images of each test identity and camera, where they are known."""
    listing = full_listing(groups, test=test)
    images = [image_path(*cell, i) for cell, count in listing.cells.items() for i in range(1, count + 1)]
    return Listing(images, listing.lists())


def full_regdb(identities: int = 412) -> Listing:
    half = identities // 2
    images = [
        f"{folder}/{identity}/{letter}_{number:05d}_{identity}.bmp"
        for folder, letter in (("Visible", "v"), ("Thermal", "t"))
        for identity in range(1, identities + 1)
        for number in range(10)
    ]
    lists = {}
    for split in range(1, 11):
        train = range(split, split + half)
        sides = {"train": train, "test": [i for i in range(1, identities + 1) if i not in train]}
        for side, members in sides.items():
            for folder, letter in (("Visible", "v"), ("Thermal", "t")):
                lines = [
                    f"{folder}/{identity}/{letter}_{number:05d}_{identity}.bmp {label}"
                    for label, identity in enumerate(members)
                    for number in range(10)
                ]
                lists[f"idx/{side}_{folder.lower()}_{split}.txt"] = "\n".join(lines)
    return Listing(images, lists)


def full_llcm(
    people: tuple[int, int] = (713, 351),
    vis: tuple[int, int] = (16_946, 8_680),
    nir: tuple[int, int] = (13_975, 7_166),
) -> Listing:
    """Test images twice: in the camera folders, and next to the training images. Numbers are of training and test."""
    images, lists = [], {}
    sides = (("train", 1, people[0]), ("test", 1 + people[0], people[1]))
    for modality, totals in (("vis", vis), ("nir", nir)):
        cameras = [camera for camera in range(1, 10) if (modality, camera) != ("nir", 3)]
        for (side, first, number_of_people), total in zip(sides, totals, strict=True):
            lines = []
            for label, count in enumerate(dealt(total, number_of_people)):
                identity = first + label
                for number in range(count):
                    camera = cameras[(number + identity) % len(cameras)]
                    name = f"{identity:04d}_c{camera:02d}_s{number:06d}_f{number:04d}_{modality}.jpg"
                    images.append(f"{modality}/{identity:04d}/{name}")
                    lines.append(f"{modality}/{identity:04d}/{name} {label}")
                    if side == "test":
                        images.append(f"test_{modality}/cam{camera}/{identity:04d}/{name}")
            lists[f"idx/{side}_{modality}.txt"] = "\n".join(lines)
    lists["idx/test_id.txt"] = ", ".join(map(str, range(1 + people[0], 1 + sum(people))))
    return Listing(images, lists)

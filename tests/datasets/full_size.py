"""The three data sets at their published counts, as file names and lists without any picture."""

from collections.abc import Iterable

SYSU_TEST = {1: (56, 1374), 2: (56, 1565), 3: (93, 1883), 4: (94, 1918), 5: (95, 1918), 6: (96, 1920)}


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


def full_sysu(test: dict[tuple[int, int], int] | None = None, test_identities: Iterable[int] = ()) -> Listing:
    """SYSU-MM01 at its published counts, 22 identities in no list among them.

    Args:
        test: Images of each test identity and camera; None: dealt out.
        test_identities: Their numbers; none: chosen here.
    """
    if test is None:
        test_identities = range(5, 485, 5)
        test = {
            (identity, camera): count
            for camera, (people, images) in SYSU_TEST.items()
            for identity, count in zip(test_identities, dealt(images, people), strict=False)
        }
    tested = set(test_identities)
    others = [identity for identity in range(1, 534) if identity not in tested]
    train, val, unlisted = others[:296], others[296:395], others[395 : 395 + 22]
    counts = dict(test)
    for identities, visible, infrared in ((train + val, 22_258, 11_909), (unlisted, 1_038, 80)):
        for cameras, total in (((1, 2, 4, 5), visible), ((3, 6), infrared)):
            cells = [(identity, camera) for identity in identities for camera in cameras]
            counts |= dict(zip(cells, dealt(total, len(cells)), strict=True))
    images = [
        f"cam{camera}/{identity:04d}/{number:04d}.jpg"
        for (identity, camera), count in counts.items()
        for number in range(1, count + 1)
    ]
    lists = {"train": train, "val": val, "test": sorted(tested)}
    return Listing(images, {f"exp/{name}_id.txt": ",".join(map(str, ids)) for name, ids in lists.items()})


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


def full_llcm() -> Listing:
    """Test images twice: in the camera folders, and beside the training images."""
    images, lists = [], {}
    for modality, train, test in (("vis", 16_946, 8_680), ("nir", 13_975, 7_166)):
        cameras = [camera for camera in range(1, 10) if (modality, camera) != ("nir", 3)]
        for side, first, people, total in (("train", 1, 713, train), ("test", 714, 351, test)):
            lines = []
            for label, count in enumerate(dealt(total, people)):
                identity = first + label
                for number in range(count):
                    camera = cameras[(number + identity) % len(cameras)]
                    name = f"{identity:04d}_c{camera:02d}_s{number:06d}_f{number:04d}_{modality}.jpg"
                    images.append(f"{modality}/{identity:04d}/{name}")
                    lines.append(f"{modality}/{identity:04d}/{name} {label}")
                    if side == "test":
                        images.append(f"test_{modality}/cam{camera}/{identity:04d}/{name}")
            lists[f"idx/{side}_{modality}.txt"] = "\n".join(lines)
    lists["idx/test_id.txt"] = ", ".join(map(str, range(714, 1065)))
    return Listing(images, lists)

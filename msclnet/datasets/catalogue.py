"""The known data sets by name, and the comparison of a copy with the published numbers."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from msclnet.datasets import llcm, regdb, sysu_mm01
from msclnet.datasets.archive import Source
from msclnet.datasets.records import Choice, Modality, Record
from msclnet.datasets.survey import Difference, Published, Survey
from msclnet.errors import UserError


@dataclass(frozen=True)
class DataSet:
    """How a data set is read and where it comes from.

    Attributes:
        name: As in params.yaml.
        title: For reports.
        list_records: All images with their splits; raises UserError where the lists do not allow it.
        wanted: Whether a file belongs to the data set, by its name in any folder or archive.
        access: Sentences that say where to apply, what to sign and which files are expected.
    """

    name: str
    title: str
    list_records: Callable[[Source, Choice], list[Record]]
    wanted: Callable[[str], bool]
    access: str


DATA_SETS = {
    data.name: data
    for data in (
        DataSet(
            name="synthetic",
            title="Synthetic",
            list_records=sysu_mm01.list_records,
            wanted=sysu_mm01.LAYOUT.wants,
            access="The synthetic data set is rendered here: there is nothing to apply for.",
        ),
        DataSet(
            name="sysu-mm01",
            title=sysu_mm01.LAYOUT.title,
            list_records=sysu_mm01.list_records,
            wanted=sysu_mm01.LAYOUT.wants,
            access=sysu_mm01.ACCESS,
        ),
        DataSet(
            name="regdb",
            title=regdb.LAYOUT.title,
            list_records=regdb.list_records,
            wanted=regdb.LAYOUT.wants,
            access=regdb.ACCESS,
        ),
        DataSet(
            name="llcm",
            title=llcm.LAYOUT.title,
            list_records=llcm.list_records,
            wanted=llcm.LAYOUT.wants,
            access=llcm.ACCESS,
        ),
    )
}


def data_set(name: str) -> DataSet:
    """A data set by its name.

    Raises:
        UserError: There is no such data set.
    """
    if name not in DATA_SETS:
        raise UserError(f"there is no data set {name!r}; choose one of {', '.join(DATA_SETS)}")
    return DATA_SETS[name]


SURVEYS: dict[str, tuple[Callable[[Source], Survey], Published | None]] = {
    "synthetic": (sysu_mm01.survey, None),
    "sysu-mm01": (sysu_mm01.survey, sysu_mm01.PUBLISHED),
    "regdb": (regdb.survey, regdb.PUBLISHED),
    "llcm": (llcm.survey, llcm.PUBLISHED),
}
SENTENCES = 20
KINDS = ("identities", "images")


@dataclass(frozen=True)
class Count:
    """Identities and images of one part, modality and camera of a data set."""

    part: str
    modality: Modality
    camera: int
    identities: int
    images: int


@dataclass(frozen=True)
class Report:
    """What a verification found.

    Attributes:
        title: The data set's name.
        compared: Whether there are published numbers to compare with.
        differences: All of them: folders, lists, what is listed but absent, numbers.
        counts: What is there.
    """

    title: str
    compared: bool
    differences: tuple[Difference, ...]
    counts: tuple[Count, ...]

    def summary(self) -> str:
        """A sentence for each difference, one a line; long lists of names and of sentences are cut with a count."""
        if not self.differences:
            return "as published" if self.compared else "nothing is published to compare with"
        number = len(self.differences)
        lines = [f"{number} difference{'s' * (number > 1)} from what was published"]
        lines += [f"  {difference.sentence()}" for difference in self.differences[:SENTENCES]]
        if number > SENTENCES:
            lines.append(f"  and {number - SENTENCES} more differences")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """Everything, uncut, for a JSON file."""
        return {
            "dataset": self.title,
            "compared": self.compared,
            "differences": [
                {**asdict(difference), "missing": list(difference.missing)} for difference in self.differences
            ],
            "counts": [asdict(count) for count in self.counts],
        }


def verify(source: Source, dataset: DataSet) -> Report:
    """Compare the files of a source with the published numbers of a data set, for whatever split is chosen later.

    Nothing is raised for what is missing or wrong: it is a difference. A data set without published numbers is
    only counted.
    """
    survey, published = SURVEYS[dataset.name]
    found = survey(source)
    differences = () if published is None else tuple(_differences(found, published))
    return Report(dataset.title, published is not None, differences, tuple(_counts(found)))


def _differences(found: Survey, published: Published) -> list[Difference]:
    empty = [folder for folder, holds in found.folders.items() if not holds]
    differences = []
    for kind, missing, expected in (
        ("folders with images", empty, len(found.folders)),
        ("lists", found.missing_lists, len(published.lists)),
    ):
        if missing:
            there = f"{expected - len(missing)}"
            differences.append(Difference(kind, there, f"{expected}", tuple(missing)))
    differences += found.broken_lists + found.absent
    for name, (identities, images) in found.listed.items():
        differences += _compare(f"list {name}", (identities, images), published.lists[name])
    for number in published.images:
        if number.folder not in empty:
            differences += _compare(str(number), number.count(found), (number.identities, number.images))
    return differences


def _compare(
    where: str, found: tuple[int | None, int | None], expected: tuple[int | None, int | None]
) -> list[Difference]:
    """Tells of what is published and differs, and of nothing else."""
    differing = [
        (f"{there:,} {kind}", f"{wanted:,} {kind}")
        for kind, there, wanted in zip(KINDS, found, expected, strict=True)
        if there is not None and wanted is not None and there != wanted
    ]
    if not differing:
        return []
    there, wanted = (" and ".join(words) for words in zip(*differing, strict=True))
    return [Difference(where, there, wanted)]


def _counts(found: Survey) -> list[Count]:
    counts = []
    for part, images in found.parts.items():
        cells: dict[tuple[Modality, int], list[int]] = {}
        for image in images:
            cells.setdefault((image.modality, image.camera), []).append(image.identity)
        for modality, camera in sorted(cells, key=lambda cell: (cell[0] == "infrared", cell[1])):
            shown = cells[modality, camera]
            counts.append(Count(part, modality, camera, identities=len(set(shown)), images=len(shown)))
    return counts

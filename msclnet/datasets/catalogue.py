"""The known data sets by name, what to do for one that is missing, and the comparison with the published numbers."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from msclnet.datasets import folder, llcm, regdb, sysu_mm01
from msclnet.datasets.archive import Source
from msclnet.datasets.layout import Layout
from msclnet.datasets.records import Choice, Modality, Record
from msclnet.datasets.survey import Difference, Published, Survey
from msclnet.errors import UserError


@dataclass(frozen=True)
class DataSet:
    """How a data set is read and where it comes from."""

    name: str  # as in params.yaml
    title: str  # for reports
    layout: Layout
    list_records: Callable[[Source, Choice], list[Record]]
    survey: Callable[[Source], Survey]
    published: Published | None  # None: nothing is published
    access: str  # where to apply, what to sign and which files are expected


def _real(name: str, data: ModuleType) -> DataSet:
    title, layout = data.LAYOUT.title, data.LAYOUT
    return DataSet(name, title, layout, data.list_records, data.survey, data.PUBLISHED, data.ACCESS)


DATA_SETS = {
    data.name: data
    for data in (
        DataSet(
            name="synthetic",
            title="Synthetic",
            layout=sysu_mm01.LAYOUT,
            list_records=sysu_mm01.list_records,
            survey=sysu_mm01.survey,
            published=None,
            access="The synthetic data set is rendered here: there is nothing to apply for.",
        ),
        _real("sysu-mm01", sysu_mm01),
        _real("regdb", regdb),
        _real("llcm", llcm),
        _real("folder", folder),
    )
}


def data_set(name: str) -> DataSet:
    """A data set by its name; UserError where there is none."""
    if name not in DATA_SETS:
        raise UserError(f"there is no data set {name!r}; choose one of {', '.join(DATA_SETS)}")
    return DATA_SETS[name]


def missing_source_message(name: str, source: Path) -> str:
    """What to do where the images of a real data set are not at `source`; empty where something is."""
    dataset = data_set(name)
    if dataset.name == "synthetic" or source.exists():
        return ""
    there = (
        f"is a link to {source.readlink()}, where there is nothing" if source.is_symlink() else "is missing"
    )
    return (
        f"{dataset.title}: {source} {there}.\n{dataset.access}\n"
        f"Then link what you were given, a folder, a zip or a tar archive:\n"
        f"    ln -sfn /path/to/{dataset.title.replace(' ', '-')} {source}"
    )


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
    """What a verification found."""

    title: str
    root: str  # the folder of the source that was taken for the data set's: empty, or ending with `/`
    compared: bool  # whether there are published numbers to compare with
    differences: tuple[Difference, ...]  # folders, lists, what is listed but absent, numbers
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
            "root": self.root,
            "compared": self.compared,
            "differences": [
                {**asdict(difference), "missing": list(difference.missing)} for difference in self.differences
            ],
            "counts": [asdict(count) for count in self.counts],
        }


def verify(source: Source, dataset: DataSet) -> Report:
    """Compare the files of a source with the published numbers of a data set, for whatever split is chosen later.

    Nothing is raised for what is missing or wrong: it is a difference.
    """
    found = dataset.survey(source)
    published = dataset.published
    differences = () if published is None else tuple(_differences(found, published))
    return Report(dataset.title, found.root, published is not None, differences, tuple(_counts(found)))


def _differences(found: Survey, published: Published) -> list[Difference]:
    empty = [folder for folder, holds in found.folders.items() if not holds]
    differences = [Difference("folder of the data set", found.elsewhere, "")] if found.elsewhere else []
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

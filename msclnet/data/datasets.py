"""The data sets by the names that params.yaml knows them by."""

from collections.abc import Callable
from dataclasses import dataclass

from msclnet.data import llcm, regdb, sysu_mm01
from msclnet.data.held_out import Choice
from msclnet.data.records import Record
from msclnet.data.source import Source
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

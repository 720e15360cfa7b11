"""Former place of `DatasetInfo`, until its callers use `msclnet.tracking.run`."""

from msclnet.tracking.run import DatasetInfo

__all__ = ["DatasetInfo"]

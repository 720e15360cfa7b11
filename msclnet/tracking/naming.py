"""Former place of names, until their callers use `msclnet.tracking.run`."""

from msclnet.tracking.run import MACHINE_METRICS as OF_THE_MACHINE
from msclnet.tracking.run import metric_name as metric

__all__ = ["OF_THE_MACHINE", "metric"]

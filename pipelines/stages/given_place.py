"""Where the images of a real data set lie: the environment, or else params.yaml."""

import os

from msclnet.datasets.acquire.place import Place, read_place
from msclnet.datasets.catalogue import data_set
from msclnet.errors import UserError
from pipelines import settings
from pipelines.stages.config import Params

VARIABLE = "MSCLNET_RAW"


def given_place(params: Params) -> Place:
    """What MSCLNET_RAW, or else download.source.images.place, names.

    Raises:
        UserError: Neither names anything, or there is nothing there.
    """
    given = params.download.source["images"]
    text = os.environ.get(VARIABLE) or given.place
    if not text:
        dataset = data_set(params.download.dataset)
        raise UserError(
            f"{dataset.title}: no images. {dataset.access} Then set {VARIABLE}, or "
            "download.source.images.place in params.yaml, to the folder, archive or URL"
        )
    if "://" not in text:
        text = str(settings.project() / os.path.expanduser(text))
    return read_place(text, sha256=given.sha256)

"""Stage `source`: where the images of a real data set lie, and the digest of what lies there.

It runs first and always, so that it also looks at what a later stage needs from outside: nobody should train for days
to be told then that a file is missing.
"""

import os

from msclnet.data.acquire.files import discard_unfinished
from msclnet.data.acquire.fingerprint import fingerprint
from msclnet.data.acquire.place import Place, read_place
from msclnet.data.datasets import data_set
from msclnet.errors import UserError
from pipelines import machine, places
from pipelines.config import Params
from pipelines.outputs import write_json
from pipelines.stage import run_stage

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
        text = str(machine.project() / os.path.expanduser(text))
    return read_place(text, sha256=given.sha256)


def check_permutations(params: Params) -> None:
    """Whether the official permutations are there, where they are asked for.

    Raises:
        UserError: They are not.
    """
    if params.download.dataset != "sysu-mm01" or "official" not in params.evaluate.samplers:
        return
    path = machine.project() / os.path.expanduser(params.evaluate.permutations)
    if not path.is_file():
        raise UserError(
            f"evaluate.permutations: {path}: no such file, but evaluate.samplers asks for 'official'; give the place "
            "of rand_perm_cam.mat, which comes with SYSU-MM01's evaluation code and not with its images, or take the "
            "sampler 'agw'"
        )


def source(params: Params) -> None:
    """MSCLNET_RAW -> data/source/images.json."""
    discard_unfinished(places.RAW)
    check_permutations(params)
    memory = machine.home() / ".dvc" / "tmp" / "msclnet-digests.json"
    wanted = data_set(params.download.dataset).wanted
    digest = fingerprint(given_place(params), memory=memory, wanted=wanted)
    write_json(places.SOURCE, {"dataset": params.download.dataset, "sha256": digest})


if __name__ == "__main__":
    run_stage(source)

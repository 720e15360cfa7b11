"""Stage `source`: where a real data set's images and gallery permutations lie, and the digests of what lies there.

It runs first and always, so that it also looks at what a later stage needs from outside: nobody should train for days
to be told then that a file is missing.
"""

import hashlib
import os

from msclnet.data.acquire.files import discard_unfinished
from msclnet.data.acquire.fingerprint import fingerprint
from msclnet.data.datasets import data_set
from msclnet.errors import UserError
from msclnet.retrieval.permutations import read_permutations
from pipelines import machine, places
from pipelines.config import Params
from pipelines.given_place import given_place
from pipelines.outputs import write_json
from pipelines.stage import run_stage


def permutations_digest(params: Params) -> str | None:
    """SHA-256 of the official permutations where they are asked for; None where they are not.

    Raises:
        UserError: They are asked for and are not there, or are something else.
    """
    if params.download.dataset != "sysu-mm01" or "official" not in params.evaluate.samplers:
        return None
    path = machine.project() / os.path.expanduser(params.evaluate.permutations)
    if not path.is_file():
        raise UserError(
            f"evaluate.permutations: {path}: no such file, but evaluate.samplers asks for 'official'; give the place "
            "of rand_perm_cam.mat, which comes with SYSU-MM01's evaluation code and not with its images, or take the "
            "sampler 'agw'"
        )
    read_permutations(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def source(params: Params) -> None:
    """MSCLNET_RAW, evaluate.permutations -> data/source/images.json, data/permutations/images.json."""
    discard_unfinished(places.RAW)
    write_json(places.PERMUTATIONS, {"sha256": permutations_digest(params)})
    memory = machine.home() / ".dvc" / "tmp" / "msclnet-digests.json"
    wanted = data_set(params.download.dataset).wanted
    digest = fingerprint(given_place(params), memory=memory, wanted=wanted)
    write_json(places.SOURCE, {"dataset": params.download.dataset, "sha256": digest})


if __name__ == "__main__":
    run_stage(source)

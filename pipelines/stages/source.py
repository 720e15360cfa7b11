"""Stage `source`: where a real data set's images and gallery permutations lie, and the digests of what lies there.

It runs first and always, so that it also looks at what a later stage needs from outside: nobody should train for days
to be told then that a file is missing.
"""

import hashlib
import os

from msclnet.datasets.acquire.files import discard_unfinished
from msclnet.datasets.acquire.fingerprint import fingerprint
from msclnet.datasets.catalogue import data_set
from msclnet.errors import UserError
from msclnet.retrieval.protocols import read_permutations
from pipelines import settings
from pipelines.stages import paths
from pipelines.stages.config import Params
from pipelines.stages.given_place import given_place
from pipelines.stages.paths import write_json
from pipelines.stages.stage import run_stage


def permutations_digest(params: Params) -> str | None:
    """SHA-256 of the official permutations where they are asked for; None where they are not.

    Raises:
        UserError: They are asked for and are not there, or are something else.
    """
    if params.download.dataset != "sysu-mm01" or "official" not in params.evaluate.samplers:
        return None
    path = settings.project() / os.path.expanduser(params.evaluate.permutations)
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
    discard_unfinished(paths.RAW)
    write_json(paths.PERMUTATIONS, {"sha256": permutations_digest(params)})
    memory = settings.home() / ".dvc" / "tmp" / "msclnet-digests.json"
    wanted = data_set(params.download.dataset).wanted
    digest = fingerprint(given_place(params), memory=memory, wanted=wanted)
    write_json(paths.SOURCE, {"dataset": params.download.dataset, "sha256": digest})


if __name__ == "__main__":
    run_stage(source)

"""Stage `download`: the raw images, as one archive in the data set's own layout."""

import shutil
import sys
from pathlib import Path

from msclnet.data.acquire.pack import pack
from msclnet.data.datasets import data_set
from msclnet.data.records import SPLITS
from msclnet.data.source import open_source
from msclnet.data.synthetic.dataset import write_dataset
from msclnet.data.synthetic.layout import ImageCounts
from msclnet.data.verification import verify
from msclnet.errors import UserError
from pipelines import machine, places
from pipelines.config import Params
from pipelines.given_place import given_place
from pipelines.outputs import write_json
from pipelines.stage import run_stage
from pipelines.telling import tellable


def download(params: Params) -> None:
    """Rendered, or data/source and what it names -> data/raw/images.zip, results/download/report.json."""
    if params.download.dataset == "synthetic":
        render(params)
    else:
        dataset = data_set(params.download.dataset)
        pack(
            given_place(params),
            places.RAW,
            wanted=dataset.wanted,
            workspace=fetched_to(),
            expected=f"the folders and lists of {dataset.title}. {dataset.access}",
        )
    report(params)
    shutil.rmtree(fetched_to(), ignore_errors=True)


def fetched_to() -> Path:
    """Folder of archives that came from a URL, kept until the data set is complete: nothing is fetched twice."""
    return machine.home() / ".dvc" / "tmp" / "msclnet-download"


def render(params: Params) -> None:
    """Draw the synthetic data set."""
    synthetic = params.download.synthetic
    write_dataset(
        places.RAW,
        seed=synthetic.seed,
        identities={split: getattr(synthetic.identities, split) for split in SPLITS},
        images=ImageCounts(**synthetic.images_per_camera.model_dump()),
        workers=machine.workers(machine.cores()),
    )


def report(params: Params) -> None:
    """Count what there is and compare it with what was published.

    Raises:
        UserError: They differ, and download.differences is `error`.
    """
    dataset = data_set(params.download.dataset)
    found = verify(open_source(places.RAW), dataset)
    write_json(places.DOWNLOAD_REPORT, found.as_dict())
    if not found.differences:
        return
    message = f"{dataset.title}: {found.summary()}"
    if params.download.differences == "warn":
        print(f"warning: {tellable(message)}", file=sys.stderr)
        return
    places.RAW.unlink()
    raise UserError(
        f"{message}\ncomplete it, or set download.differences to 'warn' to go on with what there is"
    )


if __name__ == "__main__":
    run_stage(download)

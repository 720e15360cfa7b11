"""Stage `download`: the raw images, as one archive in the data set's own layout."""

import shutil
import sys
from pathlib import Path

from msclnet.datasets.acquire.pack import pack
from msclnet.datasets.archive import open_source
from msclnet.datasets.catalogue import data_set, verify
from msclnet.datasets.records import SPLITS
from msclnet.errors import UserError
from msclnet.synthetic.dataset import write_dataset
from msclnet.synthetic.layout import ImageCounts
from pipelines import settings
from pipelines.console import tellable
from pipelines.stages import paths
from pipelines.stages.config import Params
from pipelines.stages.given_place import given_place
from pipelines.stages.paths import write_json
from pipelines.stages.stage import run_stage


def download(params: Params) -> None:
    """Rendered, or data/source and what it names -> data/raw/images.zip, results/download/report.json."""
    if params.download.dataset == "synthetic":
        render(params)
    else:
        dataset = data_set(params.download.dataset)
        pack(
            given_place(params),
            paths.RAW,
            wanted=dataset.wanted,
            workspace=fetched_to(),
            expected=f"the folders and lists of {dataset.title}. {dataset.access}",
        )
    report(params)
    shutil.rmtree(fetched_to(), ignore_errors=True)


def fetched_to() -> Path:
    """Folder of archives that came from a URL, kept until the data set is complete: nothing is fetched twice."""
    return settings.home() / ".dvc" / "tmp" / "msclnet-download"


def render(params: Params) -> None:
    """Draw the synthetic data set."""
    synthetic = params.download.synthetic
    write_dataset(
        paths.RAW,
        seed=synthetic.seed,
        identities={split: getattr(synthetic.identities, split) for split in SPLITS},
        images=ImageCounts(**synthetic.images_per_camera.model_dump()),
        workers=settings.workers(settings.cores()),
    )


def report(params: Params) -> None:
    """Count what there is and compare it with what was published.

    Raises:
        UserError: They differ, and download.differences is `error`.
    """
    dataset = data_set(params.download.dataset)
    found = verify(open_source(paths.RAW), dataset)
    write_json(paths.DOWNLOAD_REPORT, found.as_dict())
    if not found.differences:
        return
    message = f"{dataset.title}: {found.summary()}"
    if params.download.differences == "warn":
        print(f"warning: {tellable(message)}", file=sys.stderr)
        return
    paths.RAW.unlink()
    raise UserError(
        f"{message}\ncomplete it, or set download.differences to 'warn' to go on with what there is"
    )


if __name__ == "__main__":
    run_stage(download)

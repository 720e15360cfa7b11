"""Stage `download`: the raw images, as one archive in the data set's own layout."""

from msclnet.data.records import SPLITS
from msclnet.data.synthetic.dataset import write_dataset
from msclnet.data.synthetic.layout import ImageCounts
from pipelines import machine, places
from pipelines.config import Params
from pipelines.stage import run_stage


def download(params: Params) -> None:
    """params.yaml -> data/raw/images.zip."""
    synthetic = params.download.synthetic
    write_dataset(
        places.RAW,
        seed=synthetic.seed,
        identities={split: getattr(synthetic.identities, split) for split in SPLITS},
        images=ImageCounts(**synthetic.images_per_camera.model_dump()),
        workers=machine.workers(machine.cores()),
    )


if __name__ == "__main__":
    run_stage(download)

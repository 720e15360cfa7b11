"""Stage `download`: the raw images, as one archive in the data set's own layout."""

import sys
from pathlib import Path

from msclnet.datasets.archive import open_source
from msclnet.datasets.catalogue import data_set, missing_source_message, verify
from msclnet.datasets.folder import INDEX, index_of
from msclnet.datasets.labels import read_labels
from msclnet.datasets.layout import Tree
from msclnet.datasets.packing import pack
from msclnet.datasets.records import SPLITS
from msclnet.errors import UserError
from msclnet.retrieval.sampling import read_permutations
from pipelines import settings
from pipelines.console import printable
from pipelines.stages import paths
from pipelines.stages.config import Params
from pipelines.stages.paths import check_outputs_inside, check_permutations, fresh, write_json
from pipelines.stages.stage import run_stage


def download(params: Params) -> None:
    """The renderer, or data/source/<data set> -> data/raw/images.zip, results/download/report.json."""
    check_outputs_inside()
    check_permutations(params)
    if params.download.dataset == "sysu-mm01" and "official" in params.evaluate.samplers:
        read_permutations(params.evaluate.permutations)
    source, dataset = Path(params.download.source), data_set(params.download.dataset)
    if message := missing_source_message(dataset.name, source):
        raise UserError(message)
    if dataset.name == "synthetic":
        render(params)
    elif dataset.name == "folder":
        pack_folder(params, source)
    else:
        pack(
            source,
            paths.RAW,
            wanted=dataset.layout.includes,
            check=lambda opened: Tree(opened, dataset.layout),
            expected=f"the folders and lists of {dataset.title}. {dataset.access}",
        )
    report(params)


def render(params: Params) -> None:
    """Draw the synthetic data set."""
    from msclnet.synthetic.dataset import write_dataset
    from msclnet.synthetic.layout import ImageCounts

    synthetic = params.download.synthetic
    write_dataset(
        paths.RAW,
        seed=synthetic.seed,
        identities={split: getattr(synthetic.identities, split) for split in SPLITS},
        images=ImageCounts(**synthetic.images_per_camera.model_dump()),
        workers=settings.workers(settings.cores()),
    )


def pack_folder(params: Params, source: Path) -> None:
    """Pack the user's labelled images with an index of their labels."""
    asked = params.download.folder
    labels = read_labels(
        open_source(source, scratch=fresh(paths.RAW).parent), table=asked.table, pattern=asked.pattern
    )
    chosen = {label.path for label in labels}
    pack(source, paths.RAW, wanted=chosen.__contains__, added={INDEX: index_of(labels)})


def report(params: Params) -> None:
    """Count what there is, and warn or fail where it differs from what was published."""
    dataset = data_set(params.download.dataset)
    found = verify(open_source(paths.RAW), dataset)
    write_json(paths.DOWNLOAD_REPORT, found.as_dict())
    if not found.differences:
        return
    message = f"{dataset.title}: {found.summary()}"
    if params.download.differences == "warn":
        print(f"warning: {printable(message)}", file=sys.stderr)
        return
    paths.RAW.unlink()
    raise UserError(
        f"{message}\ncomplete it, or set download.differences to 'warn' to go on with what there is"
    )


if __name__ == "__main__":
    run_stage(download)

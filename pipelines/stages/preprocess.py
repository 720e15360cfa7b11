"""Stage `preprocess`: images decoded and resized once, their manifest, and a picture of the augmentation."""

from typing import Any

import numpy as np

from msclnet.datasets.archive import open_source
from msclnet.datasets.catalogue import Choice, data_set
from msclnet.datasets.records import SPLITS
from msclnet.images.augmentation import augmentation_steps
from msclnet.images.decode import decode
from msclnet.images.table import Entry, open_array, read_manifest, write_manifest
from msclnet.images.writer import write_array
from pipelines import settings
from pipelines.stages import paths
from pipelines.stages.config import Params
from pipelines.stages.paths import fresh, write_json
from pipelines.stages.stage import run_stage

RULE = (
    "EXIF rotation is applied; grayscale, palette and CMYK become RGB, 16-bit gray its upper byte, transparency black; "
    "a file that is empty, truncated, too large or no image is left out"
)
EXAMPLES = 3  # of each modality


def preprocess(params: Params) -> None:
    """data/raw/images.zip -> data/processed, results/preprocess."""
    choice = Choice(
        validation=params.preprocess.validation == "held_out", regdb_split=params.preprocess.regdb_split
    )
    records = data_set(params.download.dataset).list_records(open_source(paths.RAW), choice)
    height, width = params.preprocess.height, params.preprocess.width
    for path in (paths.PROCESSED, paths.PREPROCESS_REPORT.parent):
        path.mkdir(parents=True, exist_ok=True)
    kept: list[Entry] = []
    report: dict[str, Any] = {
        "height": height,
        "width": width,
        "rule": RULE,
        "images": {},
        "unreadable": [],
        "converted": [],
    }
    for split in SPLITS:
        chosen = [record for record in records if record.split == split]
        if split == "val" and not choice.validation:
            np.save(fresh(paths.images_of(split)), np.empty((0, height, width, 3), np.uint8))
            report["images"][split] = 0
            continue
        entries, odd = write_array(
            paths.images_of(split),
            chosen,
            source=paths.RAW,
            height=height,
            width=width,
            workers=settings.workers(settings.cores()),
        )
        kept += entries
        report["images"][split] = len(entries)
        for record, outcome in odd:
            kind = "converted" if outcome.readable else "unreadable"
            report[kind].append({"path": record.path, "what": outcome.note})
    write_manifest(fresh(paths.MANIFEST), kept)
    write_json(paths.PREPROCESS_REPORT, report)
    _draw_augmentation(params)
    print(
        f"{sum(report['images'].values())} images; {len(report['unreadable'])} unreadable ones left out, "
        f"{len(report['converted'])} converted: {paths.PREPROCESS_REPORT}"
    )


def _draw_augmentation(params: Params) -> None:
    from msclnet.figures.augmentation import AugmentationSteps, augmentation_figure
    from msclnet.figures.style import save

    rows = read_manifest(paths.MANIFEST, "train")
    images = open_array(paths.images_of("train"))
    source = open_source(paths.RAW)
    augment = params.section("augment")
    steps = augmentation_steps(augment, height=images.shape[1], width=images.shape[2], always=True)
    examples = []
    for infrared in (False, True):
        candidates = np.flatnonzero(rows.infrared == infrared)
        for row in candidates[:: max(1, len(candidates) // EXAMPLES)][:EXAMPLES]:
            states = [decode(source.read(str(rows.paths[row]))).pixels, np.array(images[row])]
            for transforms in steps.values():
                states.append(_apply(transforms, states[-1], seed=int(row)))
            modality = "infrared" if infrared else "visible"
            label = f"{modality}, identity {rows.identities[row]}, camera {rows.cameras[row]}"
            examples.append(AugmentationSteps(label, *states))
    low, high = (100 * share for share in augment["erasing"]["area"])
    caption = (
        f"In training: {augment['padding']} pixels of zero padding before the crop, flipped with probability "
        f"{augment['flip']}, one channel in place of all three with probability {augment['channel_exchange']}, "
        f"erased with probability {augment['erasing']['probability']}, {low:g} to {high:g} % of the image."
    )
    save(augmentation_figure(examples, caption=caption), fresh(paths.AUGMENTATION_PICTURE))


def _apply(transforms: list[Any], image: np.ndarray, *, seed: int) -> np.ndarray:
    import albumentations as A

    chain = A.Compose(transforms)
    chain.set_random_seed(seed)
    return chain(image=np.ascontiguousarray(image))["image"]


if __name__ == "__main__":
    run_stage(preprocess)

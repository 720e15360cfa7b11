"""Stage `preprocess`: images decoded and resized once, their manifest, and a picture of the augmentation."""

from typing import Any

import numpy as np

from msclnet.data.array_writer import write_array
from msclnet.data.arrays import open_array
from msclnet.data.datasets import Choice, data_set
from msclnet.data.decode import decode
from msclnet.data.manifest import Entry, read_manifest, write_manifest
from msclnet.data.records import SPLITS
from msclnet.data.source import open_source
from msclnet.data.transforms import augmentation_steps
from pipelines import machine, places
from pipelines.config import Params
from pipelines.outputs import fresh, write_json
from pipelines.stage import run_stage

RULE = (
    "EXIF rotation is applied; grayscale, palette and CMYK become RGB, 16-bit gray its upper byte, transparency black; "
    "a file that is empty, truncated, too large or no image is left out"
)
EXAMPLES = 3  # of each modality


def preprocess(params: Params) -> None:
    """data/raw/images.zip -> data/processed, results/preprocess."""
    settings = params.preprocess
    choice = Choice(validation=settings.validation == "held_out", regdb_split=settings.regdb_split)
    records = data_set(params.download.dataset).list_records(open_source(places.RAW), choice)
    height, width = settings.height, settings.width
    for path in (places.PROCESSED, places.PREPROCESS_REPORT.parent):
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
            np.save(fresh(places.images_of(split)), np.empty((0, height, width, 3), np.uint8))
            report["images"][split] = 0
            continue
        entries, odd = write_array(
            places.images_of(split),
            chosen,
            source=places.RAW,
            height=height,
            width=width,
            workers=machine.workers(machine.cores()),
        )
        kept += entries
        report["images"][split] = len(entries)
        for record, outcome in odd:
            kind = "converted" if outcome.readable else "unreadable"
            report[kind].append({"path": record.path, "what": outcome.note})
    write_manifest(fresh(places.MANIFEST), kept)
    write_json(places.PREPROCESS_REPORT, report)
    _draw_augmentation(params)
    print(
        f"{sum(report['images'].values())} images; {len(report['unreadable'])} unreadable ones left out, "
        f"{len(report['converted'])} converted: {places.PREPROCESS_REPORT}"
    )


def _draw_augmentation(params: Params) -> None:
    from msclnet.visualization.augmentation import AugmentationSteps, augmentation_figure
    from msclnet.visualization.style import save

    rows = read_manifest(places.MANIFEST, "train")
    images = open_array(places.images_of("train"))
    source = open_source(places.RAW)
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
    save(augmentation_figure(examples, caption=caption), fresh(places.AUGMENTATION_PICTURE))


def _apply(transforms: list[Any], image: np.ndarray, *, seed: int) -> np.ndarray:
    import albumentations as A

    chain = A.Compose(transforms)
    chain.set_random_seed(seed)
    return chain(image=np.ascontiguousarray(image))["image"]


if __name__ == "__main__":
    run_stage(preprocess)

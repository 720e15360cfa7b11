"""Stage `preprocess`: images decoded and resized once, their manifest, and a picture of the augmentation."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from msclnet.datasets.archive import open_source
from msclnet.datasets.catalogue import data_set
from msclnet.datasets.folder import identity_labels
from msclnet.datasets.records import SPLITS, Choice, Drawn, Record
from msclnet.errors import UserError
from msclnet.images.decode import decode
from msclnet.images.table import Entry, open_array, read_manifest, write_manifest
from msclnet.images.writer import Range, camera_ranges, write_array
from msclnet.retrieval.evaluation import query_exclusion
from msclnet.retrieval.protocols import SYSU_MM01_GALLERY_CAMERAS, Exclusion
from pipelines import settings
from pipelines.console import printable
from pipelines.stages import paths
from pipelines.stages.config import Params
from pipelines.stages.data_report import KINDS, MODALITIES, Group, find_groups, write_data_report
from pipelines.stages.paths import check_outputs_inside, fresh, write_json
from pipelines.stages.stage import run_stage

RULE = (
    "EXIF rotation is applied; grayscale, palette and CMYK become RGB, transparency black; gray of more than 8 bits is "
    "scaled from the range of its camera (`ranges`) to 0..255; a file that is empty, truncated, too large or no image "
    "is left out"
)
EXAMPLES = 3  # of each modality
SHOWN = 5
FEW_LEVELS = 64
ROOM = "a query ignores images by a camera of its own room or, in LLCM and where it is asked for, by its own camera"


def preprocess(params: Params) -> None:
    """data/raw/images.zip -> data/processed, results/preprocess."""
    check_outputs_inside()
    choice = Choice(
        validation=params.preprocess.validation == "held_out",
        regdb_split=params.preprocess.regdb_split,
        drawn=Drawn(**params.preprocess.folder_split.model_dump()),
    )
    if not paths.RAW.is_file():
        raise UserError(f"{paths.RAW}: no such file; run `dvc repro download`")
    dataset, source = data_set(params.download.dataset), open_source(paths.RAW)
    records = dataset.list_records(source, choice)
    labels = identity_labels(source) if dataset.name == "folder" else {}
    check_use(records, params)
    unpaired = report_unpaired(records, labels)
    workers = settings.workers(settings.cores())
    ranges = camera_ranges(records, source=paths.RAW, workers=workers)
    report_ranges(ranges)
    height, width = params.preprocess.height, params.preprocess.width
    for path in (paths.PROCESSED, paths.PREPROCESS_REPORT.parent):
        path.mkdir(parents=True, exist_ok=True)
    kept: list[Entry] = []
    report: dict[str, Any] = {
        "height": height,
        "width": width,
        "rule": RULE,
        "ranges": {str(camera): asdict(found) for camera, found in ranges.items()},
        "one_modality_only": unpaired,
        "images": {},
        "unreadable": [],
        "converted": [],
        "identity_labels": labels,
    }
    refused: list[tuple[Record, str]] = []
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
            ranges=ranges,
            workers=workers,
        )
        kept += entries
        report["images"][split] = len(entries)
        for record, outcome in odd:
            kind = "converted" if outcome.readable else "unreadable"
            report[kind].append({"path": record.path, "what": outcome.note})
            refused += [] if outcome.readable else [(record, outcome.note)]
    write_manifest(fresh(paths.MANIFEST), kept)
    found = find_groups(kept)
    report["same_picture"] = {kind: sum(group.kind == kind for group in found) for kind in KINDS}
    write_json(paths.PREPROCESS_REPORT, report)
    write_data_report(kept, refused, dataset=dataset.title, labels=labels, found=found)
    report_leaks(found, params)
    _draw_augmentation(params, ranges)
    print(
        f"{sum(report['images'].values())} images; {len(report['unreadable'])} unreadable ones left out, "
        f"{len(report['converted'])} converted: {paths.PREPROCESS_REPORT}"
    )


def check_use(records: Sequence[Record], params: Params) -> None:
    """Refuse images that cannot be trained on or scored, by what is known before any of them is decoded."""
    validating = params.preprocess.validation == "held_out"
    none_held_out = "set preprocess.validation to 'none' and train.keep to 'last'"
    for split in SPLITS:
        if any(record.split == split for record in records) or (split == "val" and not validating):
            continue
        remedy = f", or {none_held_out}" if split == "val" else ""
        raise UserError(
            f"no image of the {split} identities is there: the data set's list of them is empty, or names others than "
            f"there are images of; list some in it{remedy}"
        )
    by_modality = [
        {r.identity for r in records if r.split == "train" and r.modality == m} for m in MODALITIES
    ]
    if not set.intersection(*by_modality):
        raise UserError(
            f"no training identity has images of both modalities ({len(by_modality[0])} have visible, "
            f"{len(by_modality[1])} infrared ones): give the same person the same number in the folders of both"
        )
    dataset, every = params.download.dataset, tuple({record.camera for record in records})
    exclude = query_exclusion(dataset, same_camera=params.evaluate.same_camera)
    if validating:
        for query in MODALITIES:
            if not can_be_scored(records, "val", query=query, gallery_cameras=every, exclude=exclude):
                raise UserError(
                    f"no {query} image of the validation identities can have a match ({ROOM}): add identities with "
                    f"images of both modalities to their list, or {none_held_out}"
                )
    if dataset in ("regdb", "llcm", "folder"):
        asked = [(query, "", every) for query in MODALITIES]
    else:
        asked = [("infrared", mode, SYSU_MM01_GALLERY_CAMERAS[mode]) for mode in params.evaluate.modes]
    for query, mode, cameras in asked:
        if not can_be_scored(records, "test", query=query, gallery_cameras=cameras, exclude=exclude):
            others = [one for one in params.evaluate.modes if one != mode]
            remedy = f", or set evaluate.modes to {others}" if mode and others else ""
            raise UserError(
                f"no {query} image of the test identities can have a match{f' in mode {mode}' if mode else ''} by "
                f"cameras {', '.join(map(str, sorted(cameras)))} ({ROOM}): add test identities with images of both "
                f"modalities by such cameras{remedy}"
            )


def can_be_scored(
    records: Sequence[Record],
    split: str,
    *,
    query: str,
    gallery_cameras: Sequence[int],
    exclude: Exclusion | None,
) -> bool:
    """Whether any query of a split has a gallery image of its identity that it does not ignore."""
    cells = {(r.identity, r.camera, r.modality) for r in records if r.split == split}
    for identity in sorted({identity for identity, _, _ in cells}):
        queries = np.array([c for i, c, modality in cells if i == identity and modality == query], np.int64)
        gallery = np.array(
            [c for i, c, modality in cells if i == identity and modality != query and c in gallery_cameras],
            np.int64,
        )
        if not len(queries) or not len(gallery):
            continue
        same = np.full(len(queries), identity), np.full(len(gallery), identity)
        if exclude is None or not exclude(same[0], queries, same[1], gallery).all():
            return True
    return False


def report_leaks(found: Sequence[Group], params: Params) -> None:
    """Warn or fail where pictures are in several splits: a model would be scored on what it was trained on."""
    leaks = [group for group in found if group.kind == KINDS[0]]
    if not leaks:
        return
    pictures = f"{len(leaks)} pictures are" if len(leaks) > 1 else "1 picture is"
    message = (
        f"{pictures} in several splits, for example {' and '.join(leaks[0].names[:3])}; {paths.PREPROCESS_PAGE} "
        "shows them"
    )
    if params.preprocess.leaks == "warn":
        _warn(message)
        return
    raise UserError(
        f"{message}. Remove all but one, give them one person where it is one, or set preprocess.leaks to 'warn'"
    )


def report_unpaired(records: Sequence[Record], labels: Mapping[int, str]) -> list[int]:
    """Warn of training and validation identities with one modality only, which pairs leave out."""
    seen: dict[int, set[str]] = {}
    for record in records:
        if record.split != "test":
            seen.setdefault(record.identity, set()).add(record.modality)
    unpaired = sorted(identity for identity, modalities in seen.items() if len(modalities) == 1)
    if unpaired:
        more = f" and {len(unpaired) - SHOWN} more" if len(unpaired) > SHOWN else ""
        _warn(
            f"{len(unpaired)} of {len(seen)} training and validation identities have images of one modality only and "
            f"are not trained on: {', '.join(labels.get(one, str(one)) for one in unpaired[:SHOWN])}{more}"
        )
    return unpaired


def report_ranges(ranges: dict[int, Range]) -> None:
    """Warn of what is left of images of more than 8 bits."""
    for camera, found in ranges.items():
        few = "; a few odd pixels may widen the range: clip them in the files"
        _warn(
            f"camera {camera}: {found.images} images of more than 8 bits, scaled from {found.low:g}..{found.high:g} to "
            f"0..255: {found.levels:g} gray levels an image on average{few if found.levels < FEW_LEVELS else ''}"
        )


def _warn(message: str) -> None:
    print(f"warning: {printable(message)}", file=sys.stderr)


def _draw_augmentation(params: Params, ranges: dict[int, Range]) -> None:
    from msclnet.figures.augmentation import AugmentationSteps, augmentation_figure
    from msclnet.figures.style import save
    from msclnet.images.augmentation import augmentation_steps

    rows = read_manifest(paths.MANIFEST, "train")
    images = open_array(paths.images_of("train"))
    source = open_source(paths.RAW)
    augment = params.section("augment")
    steps = augmentation_steps(augment, height=images.shape[1], width=images.shape[2], always=True)
    examples = []
    for infrared in (False, True):
        candidates = np.flatnonzero(rows.infrared == infrared)
        for row in candidates[:: max(1, len(candidates) // EXAMPLES)][:EXAMPLES]:
            found = ranges.get(int(rows.cameras[row]))
            decoded = decode(
                source.read(str(rows.paths[row])), span=(found.low, found.high) if found else None
            )
            states = [decoded.pixels, np.array(images[row])]
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

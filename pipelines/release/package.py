"""`msclnet release`: a registered model as one file that its receiver can check; `msclnet release verify`."""

import json
import math
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from msclnet.datasets.catalogue import data_set
from msclnet.embedding import load_network, torch_embedder
from msclnet.errors import UserError
from msclnet.export.backends import ONNX, OPENVINO
from msclnet.export.onnx import OPSET, onnx_graph
from msclnet.export.release_file import (
    CALIBRATION,
    GOLDEN,
    GRAPHS,
    LARGEST_DIFFERENCE,
    LOWEST_COSINE,
    MODALITIES,
    SPEC,
    WEIGHTS,
    Verified,
    opened_release,
    verify_release,
    write_release,
)
from msclnet.export.stream import is_installed, optional
from msclnet.images.decode import resize
from msclnet.models.network import MSCLNet
from msclnet.retrieval.calibration import read_calibration
from msclnet.tracking.masking import mask
from msclnet.tracking.registered_model import RegisteredModel, downloaded_model
from msclnet.tracking.registry import describe
from msclnet.tracking.stored_run import StoredRun, stored_run
from pipelines import settings
from pipelines.release.sbom import sbom

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

PROJECT = "msclnet"
OUT = Path("results/release")
GOLDEN_SEED = 2022
GOLDEN_PEOPLE = 4
GOLDEN_CAMERAS = (1, 3)  # a visible and an infrared one
LINEAGE = ("git_commit", "git_dirty", "dvc_experiment", "recipe", "precision", "processor", "training_key")


def release(root: Path, address: str, *, out: Path | None = None, publish: str | None = None) -> Path:
    """Write a registered model with graphs, card, components, lineage and golden images into one file.

    The same run on the same machine gives the same bytes. The card becomes the version's description in MLflow.

    Args:
        root: The project.
        address: `models:/NAME@ALIAS` or `models:/NAME/VERSION`.
        out: The file; default: results/release/NAME-VERSION.zip.
        publish: Where it is copied to, any address that fsspec knows; a folder's ends with `/`.
    """
    for package in ("onnx", "onnxscript"):
        optional(package, purpose="a release")
    home = settings.home(root)
    with one_thread(), downloaded_model(address, home=home) as model:
        path = out or root / OUT / f"{model.name}-{model.version}.zip"
        run = stored_run(model.run_id, home=home)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            card = fill(folder, model, run)
            facts = {"name": model.name, "version": model.version, "run_id": model.run_id}
            write_release(folder, path, {**facts, "height": model.height, "width": model.width})
        try:
            verify(path)
        except UserError:
            path.unlink()
            raise
        describe(run.server, model.version, card, name=model.name)
    if publish:
        copy_to(path, publish)
    return path


def verify(path: Path) -> list[Verified]:
    """Check a release: digests, weights without pickle, and the golden images with each back end that is installed."""
    with opened_release(path) as found:
        verified = verify_release(found)
    for each in verified:
        print(
            f"{each.backend:12}  lowest cosine {each.agreement.cosine:.7f}, largest difference "
            f"{each.agreement.difference:.1e} of the largest value, {each.agreement.images} images"
        )
    if wrong := [each.backend for each in verified if not each.right]:
        raise UserError(
            f"{path}: {', '.join(wrong)} computes other vectors than the golden ones (allowed: cosine {LOWEST_COSINE}, "
            f"difference {LARGEST_DIFFERENCE}); install the versions of constraints.txt"
        )
    return verified


@contextmanager
def one_thread() -> Iterator[None]:
    """Golden vectors are computed by one thread on the CPU: with several their last digits differ."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def fill(folder: Path, model: RegisteredModel, run: StoredRun) -> str:
    """Write all files of a release but its manifest; returns the card."""
    for name in (WEIGHTS, f"{GRAPHS}/x", GOLDEN):
        (folder / name).parent.mkdir(exist_ok=True)
    shutil.copyfile(model.weights, folder / WEIGHTS)
    write_json(folder / SPEC, model.spec)
    network = load_network(folder / WEIGHTS, model.spec)
    write_json(folder / "preprocessing.json", preprocessing(model, network))
    write_graphs(folder / GRAPHS, network, model.height, model.width)
    write_golden(folder / GOLDEN, network, model.height, model.width)
    calibration = read_calibration(model.weights)
    if calibration:
        write_json(folder / CALIBRATION, calibration.to_json())
    reports = {}
    for name, source in {
        "metrics.json": "evaluate/metrics.json",
        "report.json": "evaluate/report.json",
        "gate.json": "promotion/promotion.json",
    }.items():
        if content := run.artifact(source):
            (folder / name).write_bytes(content)
            reports[name] = json.loads(content)
    write_json(folder / "lineage.json", lineage(run))
    try:
        components = sbom(PROJECT, model=model.name, version=model.version)
    except PackageNotFoundError as error:
        raise UserError(f"the package {error} is not installed; run `pip install --editable .`") from error
    (folder / "sbom.json").write_text(components + "\n", encoding="utf-8")
    fits = calibration.to_json()["fits"] if calibration else {}
    card = model_card(model, run, reports, fits, network.backbone.channels)
    (folder / "card.md").write_text(card, encoding="utf-8")
    return card


def write_json(path: Path, values: Any) -> None:
    """Write sorted, indented JSON."""
    path.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def preprocessing(model: RegisteredModel, network: MSCLNet) -> dict[str, Any]:
    """What a program that runs the graphs has to do with an image, and with the vectors."""
    return {
        "images": f"uint8 RGB (N, {model.height}, {model.width}, 3), 0 to 255; infrared: three equal channels",
        "resize": "Pillow's LANCZOS of the whole cut-out, without keeping its aspect",
        "normalisation": "in the graphs: ImageNet's mean and standard deviation",
        "outputs": f"pooled and bnneck, float32 (N, {network.backbone.channels}), unnormalised",
        "search": "bnneck, cosine similarity",
        "streams": dict.fromkeys(MODALITIES, "a graph of its own for images of this modality"),
        "opset": OPSET,
        "versions": {name: version(name) for name in ("torch", "onnx")},
    }


def write_graphs(folder: Path, network: MSCLNet, height: int, width: int) -> None:
    """Write each stream as ONNX and, where OpenVINO is installed, in its format."""
    formats = [ONNX, *([OPENVINO] if is_installed(OPENVINO.package) else [])]
    for modality, infrared in MODALITIES.items():
        graph = onnx_graph(network, infrared=infrared, height=height, width=width)
        for each in formats:
            each.write(graph, folder / f"{modality}{each.ending}")


def write_golden(path: Path, network: MSCLNet, height: int, width: int) -> None:
    """Render people, embed them by the network itself in fp32, and write images and vectors."""
    from safetensors.numpy import save_file

    from msclnet.synthetic.render import render_person

    images, infrared = [], []
    for camera in GOLDEN_CAMERAS:
        for person in range(GOLDEN_PEOPLE):
            picture = render_person(seed=GOLDEN_SEED, identity=person, camera=camera, image=0)
            images.append(resize(picture, height=height, width=width))
            infrared.append(camera == GOLDEN_CAMERAS[1])
    stacked, embed = np.stack(images), torch_embedder(network)
    parts = [embed(stacked[np.equal(infrared, stream)], infrared=stream) for stream in (False, True)]
    pooled, bnneck = (np.concatenate(each) for each in zip(*parts, strict=True))
    arrays = {"images": stacked, "infrared": np.array(infrared, np.uint8), "pooled": pooled, "bnneck": bnneck}
    save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)


def lineage(run: StoredRun) -> dict[str, Any]:
    """Where the weights come from: for `msclnet restore`, and for people."""
    kept = {name: value for name, value in run.tags.items() if name in LINEAGE or name.startswith("data.")}
    return {
        "run_id": run.run_id,
        "run_name": run.name,
        "dataset": run.dataset,
        "dataset_digest": run.tags.get("dataset_digest"),
        "tags": kept,
        "params": dict(run.params),
    }


def model_card(
    model: RegisteredModel,
    run: StoredRun,
    reports: Mapping[str, Any],
    calibration: Mapping[str, Any],
    vector_width: int,
) -> str:
    """The model card as Markdown; what was not measured is said to be missing."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("pipelines.release"), undefined=StrictUndefined, keep_trailing_newline=True
    )
    facts = dict.fromkeys(("dataset_digest", *LINEAGE, "world_size")) | dict(run.tags)
    params = dict.fromkeys(("seed", "model.backbone", "train.epochs"), "unknown") | dict(run.params)
    metrics = reports.get("metrics.json", {})
    return environment.get_template("card.md").render(
        name=model.name,
        version=model.version,
        run_id=model.run_id,
        height=model.height,
        image_width=model.width,
        width=vector_width,
        dataset=data_set(run.dataset),
        counts=run.counts,
        tags=facts,
        params=params,
        minutes=run.minutes,
        figures=figures(reports.get("report.json", ())),
        conditions=metrics.get("conditions", ""),
        validation=metrics.get("validation"),
        calibration=calibration,
        gate=reports.get("gate.json"),
        lowest_cosine=LOWEST_COSINE,
        largest_difference=LARGEST_DIFFERENCE,
    )


def figures(reports: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows of the card: the search's own feature by protocol, with the interval of the mean over the draws."""
    rows = []
    for report in reports:
        if report["feature"] == "bnneck":
            parts = (report["mode"], f"{report['shots']}-shot" if report["mode"] else "", report["direction"])
            ranked = ["re-ranked"] if report["re_ranking"] else []
            rows.append(
                {
                    "protocol": ", ".join([part for part in parts if part] + ranked),
                    "trials": report["trials"],
                    **{name: interval(report["per_trial"][name]) for name in ("rank1", "mAP")},
                }
            )
    return rows


def interval(shares: "ArrayLike") -> str:
    """Mean and 95 % interval of the mean of shares (T,), in percent, as text; one draw has no interval."""
    from scipy.stats import t

    values = 100 * np.asarray(shares, np.float64)
    if len(values) < 2:
        return f"{values.mean():.1f}"
    half = float(t.ppf(0.975, len(values) - 1)) * values.std(ddof=1) / math.sqrt(len(values))
    return f"{values.mean():.1f} ({values.mean() - half:.1f} to {values.mean() + half:.1f})"


def copy_to(path: Path, address: str) -> str:
    """Copy a file to an address of any kind that fsspec knows; returns where it lies."""
    import fsspec

    target = f"{address}{path.name}" if address.endswith("/") else address
    try:
        filesystem, place = fsspec.url_to_fs(target)
        filesystem.makedirs(filesystem._parent(place), exist_ok=True)
        filesystem.put_file(str(path), place)
    except Exception as error:  # file systems share no base class of errors
        raise UserError(f"--publish {mask(address)}: cannot be written ({mask(str(error))})") from None
    return target

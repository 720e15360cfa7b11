"""Watching a gallery: injected night, blur and swapped channels of one camera, refused files, and nothing at all."""

import io
import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pytest
from mlflow import MlflowClient
from PIL import Image
from scipy.stats import hypergeom
from small_galleries import DESCRIPTION, HEIGHT, WIDTH, add, coarse_pixels

from msclnet.gallery.drift import compared, compared_refusals, drift, measured
from msclnet.gallery.schema import schema_of
from msclnet.gallery.store import Gallery
from pipelines import cli
from pipelines.settings import QUIET

Change = Callable[[np.ndarray], np.ndarray]
START = datetime(2026, 11, 1)
N = 60  # images of a window
SEEDS = range(3)  # docs/gallery.md has the rates over twenty on rendered people


def people(generator: np.random.Generator, count: int) -> np.ndarray:
    """uint8 (N, H, W, 3): reddish above, dark below, with texture."""
    blocks = generator.normal((120, 95, 80), 35, (count, 8, 4, 3)) - np.linspace(0, 30, 8)[:, None, None]
    coarse = np.repeat(np.repeat(blocks, HEIGHT // 8, axis=1), WIDTH // 4, axis=2)
    return np.clip(coarse + generator.normal(0, 8, coarse.shape), 0, 255).astype(np.uint8)


def unchanged(images: np.ndarray) -> np.ndarray:
    return images


def night(images: np.ndarray) -> np.ndarray:
    return images // 4


def blur(images: np.ndarray) -> np.ndarray:
    return np.stack([cv2.GaussianBlur(image, (0, 0), 2) for image in images])


def swapped(images: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(images[..., ::-1])


def make(folder: Path, seed: int, change: Change) -> Gallery:
    """Cameras c0 and c1 with a few images more than three windows; the newest of c1 are changed."""
    gallery, generator = Gallery.create(folder, DESCRIPTION), np.random.default_rng(seed)
    rows = []
    for camera in ("c0", "c1"):
        images = people(generator, 3 * N + 5)
        if camera == "c1":
            images[-N:] = change(images[-N:])
        vectors = coarse_pixels(images, np.zeros(len(images), bool))
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        for number, (image, vector) in enumerate(zip(images, vectors, strict=True)):
            content = io.BytesIO()
            Image.fromarray(image).save(content, "JPEG", quality=95)
            name = f"{camera}-{number}"
            row = {"id": name, "path": name, "sha256": name, "size": 1, "modified": 1, "camera": camera}
            time = START + timedelta(minutes=number)
            row |= {"time": time, "modality": "visible", "identity": None, "crop": content.getvalue()}
            rows.append(row | {"vector": vector.astype(np.float16)})
    gallery.add(pa.Table.from_pylist(rows, schema=schema_of(DESCRIPTION)))
    return gallery


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("change", "measure"),
    [(unchanged, ""), (night, "brightness"), (blur, "sharpness"), (swapped, "colour")],
)
def test_a_changed_camera_fires_and_no_other(tmp_path: Path, seed: int, change: Change, measure: str) -> None:
    found = drift(make(tmp_path / "yard", seed, change), newest=N)
    fired = {(each.camera, each.measure) for each in found.changes if each.fires}
    assert {camera for camera, _ in fired} == ({"c1"} if measure else set())
    assert found.fires == bool(measure)
    assert not measure or ("c1", measure) in fired
    assert len(found.changes) == 2 * 5


def test_refused_files_count_by_camera_and_time(tmp_path: Path) -> None:
    gallery = make(tmp_path / "yard", 0, unchanged)
    late, early = START + timedelta(days=1), START + timedelta(minutes=N)
    files = [{"path": f"{n}.jpg", "camera": "c0", "time": late, "reason": "cut off"} for n in range(20)]
    files += [{"path": "first.jpg", "camera": "c0", "time": early, "reason": "cut off"}]
    gallery.refuse(files)
    gallery.refuse(files)  # the same files again, at the next addition
    found = {each.camera: each for each in drift(gallery, newest=N).changes if each.measure == "refusals"}
    assert found["c0"].fires
    assert not found["c1"].fires
    assert (found["c0"].start, found["c0"].newest) == (1 / 61, 20 / 80)


def test_an_addition_keeps_what_it_refuses(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "c7_20261101T083000_x.png").write_bytes(b"no image")
    gallery = Gallery.create(tmp_path / "yard", DESCRIPTION)
    add(gallery, folder)
    add(gallery, folder)
    assert [(row["camera"], row["time"]) for row in gallery.refused()] == [
        ("c7", datetime(2026, 11, 1, 8, 30))
    ]


def test_effects_and_p_are_those_of_the_definitions() -> None:
    generator = np.random.default_rng(1)
    images = [people(generator, 1)[0] for _ in range(8)]
    vectors = generator.normal(size=(8, 5))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    sample = measured(images[:4], vectors[:4], vectors[4:])
    grey = [image @ np.array([0.299, 0.587, 0.114]) for image in images[:4]]
    np.testing.assert_allclose(sample.brightness, [each.mean() for each in grey], atol=0.6)  # rounded pixels
    nearest = [max(float(one @ other) for other in vectors[4:]) for one in vectors[:4]]
    np.testing.assert_allclose(sample.similarity, nearest, atol=1e-6)
    red_minus_blue = [np.median(image[..., 0].astype(float) - image[..., 2]) for image in images[:4]]
    np.testing.assert_allclose(sample.colour, red_minus_blue)
    other = measured(images[4:], vectors[4:], vectors[:4])
    for change, before, after in zip(compared("c", sample, other), sample, other, strict=True):
        points = np.concatenate([before, after])
        shares = [(np.mean(before <= x), np.mean(after <= x)) for x in points]
        assert change.effect == pytest.approx(max(abs(a - b) for a, b in shares))
    refusals = compared_refusals("c", (1, 9), (4, 6))
    tables = np.array([hypergeom.pmf(k, 20, 5, 10) for k in range(6)])
    assert refusals.p == pytest.approx(tables[tables <= tables[1] * (1 + 1e-7)].sum())
    assert (refusals.start, refusals.newest, refusals.effect) == (0.1, 0.4, pytest.approx(0.3))


def test_the_command_ends_with_a_status_and_logs_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MSCLNET_HOME", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    for name, value in QUIET.items():
        monkeypatch.setenv(name, value)
    make(tmp_path / "dark", 0, night)
    make(tmp_path / "same", 0, unchanged)

    def status(*arguments: str) -> int:
        with pytest.raises(SystemExit) as ended:
            cli.main(["gallery", "watch", *arguments])
        return int(ended.value.code or 0)

    assert status(str(tmp_path / "dark"), "--newest", str(N)) == 3
    assert "c1: brightness has changed" in capsys.readouterr().out
    client = MlflowClient(f"sqlite:///{tmp_path}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name("galleries")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.data.tags["drift"], run.info.status) == ("true", "FINISHED")
    assert run.data.metrics["c1/brightness/effect"] == 1
    stored = json.loads(Path(client.download_artifacts(run.info.run_id, "drift.json")).read_text())
    assert stored["fires"] is True
    assert {"drift.json", "drift.md"} == {each.path for each in client.list_artifacts(run.info.run_id)}
    assert status(str(tmp_path / "same"), "--newest", str(N)) == 0
    assert status(str(tmp_path / "same"), "--newest", "19") == 2
    Gallery.create(tmp_path / "empty", DESCRIPTION)
    assert status(str(tmp_path / "empty")) == 2
    assert "60 images" in capsys.readouterr().err


def test_a_camera_with_few_images_is_left_out(tmp_path: Path) -> None:
    gallery = make(tmp_path / "yard", 0, unchanged)
    gallery.remove("camera = 'c1' AND time < timestamp '2026-11-01 02:30:00'")
    found = drift(gallery, newest=N)
    assert {each.camera for each in found.changes} == {"c0"}
    assert found.left_out == {"c1": 35}

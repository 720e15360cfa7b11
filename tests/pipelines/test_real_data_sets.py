"""Replicas of the real data sets: from what a user was given to labelled figures."""

import io
import json
import os
import re
import shutil
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from replicas import write_llcm, write_regdb, write_sysu_mm01
from ruamel.yaml import YAML
from smoke_project import Project, copy_project

pytestmark = pytest.mark.pipeline

SHOWN = ("rank1", "rank5", "rank10", "rank20", "mAP", "mINP")


def prepared(target: Path, database: Path, dataset: str, **changes: Any) -> Project:
    """A project at smoke size whose params.yaml asks for the data set; changes by dotted key, `__` for the dot."""
    project = copy_project(target, database)
    path = project.root / "params.yaml"
    yaml = YAML()
    params = yaml.load(path.read_text())
    params["download"] |= {"dataset": dataset, "source": f"data/source/{dataset}", "differences": "warn"}
    params["train"]["batch"]["identities"] = 2
    for key, value in {"train__epochs": 2, "train__steps_per_epoch": 2, **changes}.items():
        section, name = key.split("__")
        params[section][name] = value
    with path.open("w") as file:
        yaml.dump(params, file)
    return project


def link(project: Project, given: Path) -> None:
    """What a user types for the data set that params.yaml asks for."""
    source = YAML(typ="safe").load((project.root / "params.yaml").read_text())["download"]["source"]
    place = project.root / source
    place.unlink(missing_ok=True)
    place.symlink_to(given)


def zipped(folder: Path, archive: Path) -> Path:
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(folder.rglob("*")):
            file.write(path, f"given/{path.relative_to(folder).as_posix()}")
    return archive


def reports(project: Project) -> list[dict[str, Any]]:
    return json.loads((project.root / "results/metrics/report.json").read_text())


def executed(output: str) -> list[str]:
    return re.findall(r"Running stage '(\w+)'", output)


@pytest.fixture(scope="module")
def sysu(tmp_path_factory: pytest.TempPathFactory, empty_database: Path) -> tuple[Project, Path]:
    folder = tmp_path_factory.mktemp("cam_archives")
    write_sysu_mm01(folder / "cam1", train=6, val=4, test=5, images=2)
    archive = zipped(folder / "cam1", folder / "SYSU-MM01.zip")
    project = prepared(tmp_path_factory.mktemp("sysu") / "cam3", empty_database, "sysu-mm01")
    link(project, archive)
    project.run("dvc", "repro")
    return project, archive


def test_sysu_mm01_from_an_archive(sysu):
    project, _ = sysu
    found = reports(project)
    own = [r for r in found if r["feature"] == "bnneck"]
    assert {(r["mode"], r["shots"], r["sampler"], r["trials"]) for r in own} == {
        (mode, shots, "agw", 10) for mode in ("all", "indoor") for shots in (1, 10)
    }
    assert {(r["dataset"], r["direction"], r["flip"], r["re_ranking"], r["split"]) for r in found} == {
        ("sysu-mm01", "infrared-to-visible", False, False, None)
    }
    metrics = json.loads((project.root / "results/metrics/metrics.json").read_text())
    assert metrics["conditions"].startswith(
        "sysu-mm01, infrared-to-visible, 10 trials, no mirror images, no re-rank"
    )
    assert (project.root / "results/figures/top10.png").stat().st_size > 10_000
    project.run("dvc", "plots", "show")
    counted = json.loads((project.root / "results/download/report.json").read_text())
    assert counted["differences"]


def test_an_unchanged_archive_reruns_nothing_and_a_changed_one_everything_it_concerns(sysu, tmp_path):
    project, archive = sysu
    os.utime(archive)
    assert executed(project.run("dvc", "repro").stdout) == []

    changed = tmp_path / "changed.zip"
    changed.write_bytes(archive.read_bytes())
    picture = io.BytesIO()
    Image.new("RGB", (48, 96), "red").save(picture, "JPEG")
    with zipfile.ZipFile(changed) as file:
        some = next(name for name in file.namelist() if "/cam1/" in name and name.lower().endswith(".jpg"))
    with zipfile.ZipFile(changed, "a") as file:
        file.writestr(some.rsplit("/", 1)[0] + "/0099.jpg", picture.getvalue())
    link(project, changed)
    rerun = project.run("dvc", "repro", "preprocess")
    assert executed(rerun.stdout) == ["download", "preprocess"]
    link(project, archive)
    back = project.run("dvc", "repro")
    assert executed(back.stdout) == []
    assert "is cached" in back.stdout


def test_an_experiment_sees_the_link_too(sysu):
    project, _ = sysu
    command = ("python", "-m", "pipelines", "train", "--set", "evaluate.trials=3", "--until", "evaluate")
    first = project.run(*command, "--name", "three")
    assert "saved as experiment three" in first.stdout + first.stderr
    assert project.run("git", "status", "--porcelain", "data").stdout == ""  # the link is the user's own


@pytest.mark.parametrize("to", [None, "/nowhere/SYSU-MM01.zip"])
def test_a_missing_archive_is_named(sysu, to: str | None):
    project, archive = sysu
    place = project.root / "data/source/sysu-mm01"
    place.unlink()
    if to:
        place.symlink_to(to)
    try:
        by_dvc = project.run("dvc", "repro", ok=False, own_process=True)
        by_stage = project.run("python", "-m", "pipelines.stages.download", ok=False)
    finally:
        link(project, archive)
    assert by_dvc.returncode
    assert "data/source/sysu-mm01" in by_dvc.stdout + by_dvc.stderr
    assert by_stage.returncode == 2
    for part in (to or "is missing", "sign", "cam1 to cam6", "ln -sfn", " data/source/sysu-mm01"):
        assert part in by_stage.stderr
    assert "Traceback" not in by_dvc.stderr + by_stage.stderr


def test_a_partial_copy_is_an_error_where_it_should_be(sysu):
    project, _ = sysu
    project.edit("differences: warn", "differences: error")
    try:
        done = project.run("python", "-m", "pipelines.stages.download", ok=False)
    finally:
        project.edit("differences: error", "differences: warn")
        project.run("dvc", "checkout", "--force")
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "22,258" in done.stderr
    assert "download.differences" in done.stderr


def test_regdbs_grid_on_a_folder_with_all_identities_in_training(tmp_path, empty_database):
    """The project's own grid, on two of its ten rows and without figures: real stages, and the mean over splits."""
    write_regdb(tmp_path / "cam2" / "RegDB")
    project = prepared(tmp_path / "project", empty_database, "regdb", preprocess__validation="none")
    link(project, tmp_path / "cam2")
    shutil.copy(project.root / "params.yaml", project.root / "presets/regdb.yaml")
    grid = project.root / "experiments/regdb.yaml"
    grid.write_text(grid.read_text().replace("until: visualize", "until: evaluate"))
    done = project.run("python", "-m", "pipelines", "grid", "regdb", "--rows", "split-1", "split-2")

    lines = (project.root / "experiments/results/regdb.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    assert [record["row"] for record in records] == ["split-1", "split-2"]
    for split, record in enumerate(records, start=1):
        own = [r for r in record["reports"] if r["feature"] == "bnneck"]
        assert [r["direction"] for r in own] == ["visible-to-infrared", "infrared-to-visible"]
        assert {(r["dataset"], r["split"], r["mode"], r["shots"]) for r in record["reports"]} == {
            ("regdb", split, None, None)
        }
        assert record["figures"]["validation"] == {}
        test = record["figures"]["test"]
        assert set(test["visible-to-infrared"]["mean"]) == set(SHOWN)
        assert set(test["infrared-to-visible"]["mean"]) == {"rank1", "mAP"}
    assert len({record["data"]["data/processed/manifest.csv"] for record in records}) == 2

    summary = json.loads((project.root / "results/regdb/regdb.json").read_text())
    assert (summary["splits"], summary["failed"]) == ([1, 2], {})
    for place, result in enumerate(summary["results"]):  # each direction and feature
        reports = [record["reports"][place] for record in records]
        for label in ("direction", "feature", "embedding"):
            assert result[label] == reports[0][label] == reports[1][label]
        for metric in SHOWN:
            expected = [100 * report[metric]["mean"] for report in reports]
            assert result[metric]["per_split"] == pytest.approx(expected)
            assert result[metric]["mean"] == pytest.approx(sum(expected) / 2)
            assert result[metric]["std"] == pytest.approx(abs(expected[0] - expected[1]) / 2**0.5)
    assert "mean over 2 of 10 rows" in done.stdout
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{project.root}/mlruns/mlflow.db")
    model = client.get_registered_model("msclnet-smoke")
    assert set(model.aliases) == {"candidate"}  # nothing to compare champions on


def test_llcm_from_a_tar_archive_with_mirror_images_and_re_ranking(tmp_path, empty_database):
    write_llcm(tmp_path / "LLCM")
    with tarfile.open(tmp_path / "LLCM.tar.gz", "w:gz") as file:
        file.add(tmp_path / "LLCM", "LLCM")
    project = prepared(
        tmp_path / "project", empty_database, "llcm", embed__flip=True, embed__backend="openvino"
    )
    project.edit("re_ranking: {on: false", "re_ranking: {on: true")
    link(project, tmp_path / "LLCM.tar.gz")
    project.run("dvc", "repro", "evaluate")
    found = reports(project)
    assert {(r["direction"], bool(r["re_ranking"])) for r in found if r["feature"] == "bnneck"} == {
        (direction, on)
        for direction in ("visible-to-infrared", "infrared-to-visible")
        for on in (False, True)
    }
    for r in found:
        own = r["feature"] in ("bnneck", "pooled")
        assert r["flip"] == own
        assert r["embedding"] == ({"backend": "openvino", "precision": "fp32"} if own else None)
    metrics = json.loads((project.root / "results/metrics/metrics.json").read_text())
    assert "1shot-agw-visible-to-infrared-reranked" in metrics
    assert metrics["validation"]["score"] > 0

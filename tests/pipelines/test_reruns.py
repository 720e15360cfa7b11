"""What a change of params.yaml reruns: the table in README.md."""

import json
import re
from itertools import pairwise
from pathlib import Path

import pytest

STAGES = ["download", "preprocess", "train", "embed", "evaluate", "visualize"]
CHANGES = {
    "nothing": (None, []),
    "visualize": (("map_identities: 4", "map_identities: 5"), ["visualize"]),
    "evaluate": (("trials: 10", "trials: 9"), ["evaluate", "visualize"]),
    "embed": (("embed:\n  batch: 64", "embed:\n  batch: 32"), ["embed"]),
    "learning rate": (("from_epoch: 1, rate: 0.05", "from_epoch: 1, rate: 0.04"), ["train"]),
    "loss weight": (("sub: {on: true, weight: 1.0}", "sub: {on: true, weight: 2.0}"), ["train"]),
    "profile": (("profile: 0", "profile: 2"), ["train"]),
    "network": (("parts: 6", "parts: 3"), ["train"]),
    "augmentation": (("flip: 0.5", "flip: 0.4"), ["preprocess", "train"]),
    "image size": (("height: 96", "height: 84"), ["preprocess"]),
    "data set": (("seed: 2022", "seed: 2023"), ["download"]),
}

pytestmark = pytest.mark.pipeline


def stale(project) -> list[str]:
    """Stages whose own parameters or code changed, by DVC's word."""
    status = json.loads(project.run("dvc", "status", "--json").stdout)
    return [stage for stage in STAGES if stage in status]


def executed(output: str) -> list[str]:
    """Stages that a `dvc repro` really ran."""
    return re.findall(r"Running stage '(\w+)'", output)


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_makes_its_own_stage_stale(project, change):
    edit, expected = CHANGES[change]
    if edit:
        project.edit(*edit)
    assert stale(project) == expected


def test_an_unchanged_project_runs_nothing(project):
    assert executed(project.run("dvc", "repro").stdout) == []


def test_what_follows_a_stale_stage_follows_by_the_graph(project):
    """Each stage depends on an output of the one before it, so that a changed result is passed on."""
    graph = project.run("dvc", "dag", "--dot").stdout
    edges = set(re.findall(r'"(\w+)" -> "(\w+)"', graph))
    assert set(pairwise(STAGES)) <= edges | {(b, a) for a, b in edges}


def test_a_change_trains_again_and_former_values_bring_former_results_back(project):
    """Without any training, which is made to fail. test_pipeline.py has the stages after a changed one run as well."""
    weights = (project.root / "results/train/model.safetensors").read_bytes()
    figures = (project.root / "results/metrics/metrics.json").read_bytes()
    params = (project.root / "params.yaml").read_text()
    project.edit("from_epoch: 1, rate: 0.05", "from_epoch: 1, rate: 0.04")
    assert executed(project.run("dvc", "repro", "train").stdout) == ["train"]
    assert (project.root / "results/train/model.safetensors").read_bytes() != weights

    (project.root / "params.yaml").write_text(params)
    done = project.run("dvc", "repro", MSCLNET_DEVICE="no-such-device")
    assert executed(done.stdout) == []
    assert "cached" in done.stdout
    assert (project.root / "results/train/model.safetensors").read_bytes() == weights
    assert (project.root / "results/metrics/metrics.json").read_bytes() == figures


def test_the_table_in_the_readme_names_these_changes():
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    for words in ("`visualize.*`", "`evaluate.*`", "learning rate", "image size", "nothing"):
        assert words in readme

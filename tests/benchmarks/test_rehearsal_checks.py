"""Whatever number differs is found: outputs made by hand, then spoiled one at a time."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rehearsal_files import EXPECTED

from benchmarks import rehearsal
from benchmarks.rehearsal import FEATURES, FIGURES, Check, Measured, checks, conclude

Values = dict[str, Any]
PUBLISHED = replace(EXPECTED, published=True)
REPORT = "results/metrics/report.json"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Outputs of all stages as they should be."""
    write_json(
        tmp_path / "results/download/report.json",
        {
            "compared": True,
            "differences": [],
            "counts": [
                {"part": "test", "camera": camera, "identities": identities, "images": images}
                for camera, (identities, images) in EXPECTED.test_cameras.items()
            ],
        },
    )
    rows = [kind for kind, count in EXPECTED.images.items() for _ in range(count)]
    lines = [f"{split},{modality},{number}" for number, (split, modality) in enumerate(rows)]
    write(tmp_path / "data/processed/manifest.csv", "\n".join(["split,modality,sha256", *lines]) + "\n")
    write_json(
        tmp_path / "results/preprocess/report.json",
        {"height": 4, "width": 2, "unreadable": [], "converted": []},
    )
    for split, count in (("train", 114), ("test", 150)):
        np.save(tmp_path / f"data/processed/images_{split}.npy", np.zeros((count, 4, 2, 3), np.uint8))
    (tmp_path / "results/embeddings").mkdir()
    save_features(tmp_path, np.ones((150, 5), np.float32))
    write_json(
        tmp_path / REPORT,
        [
            {
                "mode": mode,
                "shots": shots,
                "sampler": "agw",
                "feature": feature,
                "queries": 16,
                "valid_queries": EXPECTED.valid_queries[mode],
                "gallery": gallery,
                "trials": 10,
            }
            for (mode, shots), gallery in EXPECTED.gallery.items()
            for feature in FEATURES
        ],
    )
    for name in FIGURES:
        write(tmp_path / f"results/figures/{name}.png", "picture")
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def write_json(path: Path, values: Any) -> None:
    write(path, json.dumps(values))


def save_features(project: Path, features: np.ndarray) -> None:
    np.savez(project / "results/embeddings/test.npz", pooled=features, bnneck=np.ones_like(features))


def change(name: str, edit: Callable[[Any], Any]) -> Callable[[Path], None]:
    """Rewrites a JSON file."""

    def spoil(project: Path) -> None:
        values = json.loads((project / name).read_text())
        edit(values)
        write_json(project / name, values)

    return spoil


def replace_text(name: str, old: str, new: str) -> Callable[[Path], None]:
    def spoil(project: Path) -> None:
        text = (project / name).read_text()
        assert old in text
        write(project / name, text.replace(old, new, 1))

    return spoil


def not_a_number(project: Path) -> None:
    save_features(project, np.full((150, 5), np.nan, np.float32))


SPOILED = {
    "download: compared with the published numbers": change(
        "results/download/report.json", lambda report: report.update(compared=False)
    ),
    "download: differences": change(
        "results/download/report.json", lambda report: report["differences"].append({"where": "cam1"})
    ),
    "download: test identities and images by camera": change(
        "results/download/report.json", lambda report: report["counts"][2].update(images=9)
    ),
    "preprocess: images by split and modality": replace_text(
        "data/processed/manifest.csv", "train,infrared", "train,visible"
    ),
    "preprocess: different files": replace_text("data/processed/manifest.csv", ",7\n", ",8\n"),
    "preprocess: unreadable or converted": change(
        "results/preprocess/report.json", lambda report: report["unreadable"].append({"path": "x"})
    ),
    "preprocess: array of test": lambda project: np.save(
        project / "data/processed/images_test.npy", np.zeros((149, 4, 2, 3), np.uint8)
    ),
    "embed: finite features, pooled": not_a_number,
    "evaluate: reports": change(REPORT, lambda reports: reports.pop()),
    "evaluate: queries, valid ones, gallery, trials of indoor-1shot": change(
        REPORT, lambda reports: reports[9].update(valid_queries=16)
    ),
    "evaluate: queries, valid ones, gallery, trials of all-10shot": change(
        REPORT, lambda reports: reports[4].update(gallery=129)
    ),
    "visualize: figures": lambda project: (project / "results/figures/top10.png").write_text(""),
}


def test_right_outputs_pass(project: Path) -> None:
    found = list(checks(project, PUBLISHED, sampler="agw"))
    assert [check.what for check in found if not check.holds] == []
    assert {check.what for check in found} > set(SPOILED)


@pytest.mark.parametrize("what", SPOILED)
def test_one_wrong_number_is_found(project: Path, what: str) -> None:
    SPOILED[what](project)
    assert [check.what for check in checks(project, PUBLISHED, sampler="agw") if not check.holds] == [what]


def test_another_sampler_is_found(project: Path) -> None:
    wrong = [check.what for check in checks(project, PUBLISHED, sampler="official") if not check.holds]
    assert "evaluate: reports" in wrong


@pytest.mark.parametrize("found", [2208, 3803])
def test_a_wrong_number_fails_the_rehearsal_and_is_in_its_report(
    found: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rehearsal, "REPORT", tmp_path / "report.json")
    measured = {name: Measured(0, 20.0, 30.0, 2**30) for name in ("preprocess", "evaluate")}
    numbers = [Check("valid queries", found, 2208)]
    good = conclude(measured, numbers, images=20_000, conditions={"workers": 2})
    shown, written = capsys.readouterr().out, json.loads((tmp_path / "report.json").read_text())
    assert good == (found == 2208)
    assert ("error: valid queries: found 3803, expected 2208" in shown) == (not good)
    assert written["numbers"][0]["holds"] == good
    # 20,000 images in 20 s on two cores.
    assert written["targets"][0] == {
        "what": "preprocess, each core",
        "found": 500.0,
        "limit": 400,
        "least": True,
        "unit": "images/s",
        "reason": "",
        "met": True,
    }

"""The tiny project with splits: a preset for RegDB, and reports whose figures follow from the split.

What `train` does with a split is told by files in the home folder: `wrong-3` makes split 3 a user's mistake,
`crash-3` a crash, `endless-3` a training that ends by SIGTERM alone.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import tiny_project
from tiny_project import COMMON, git

STAGES = """\
stages:
  preprocess:
    cmd: python preprocess.py
    deps: [preprocess.py]
    params: [download, preprocess]
    outs: [data/prepared]
  train:
    cmd: python train.py
    deps: [train.py, data/prepared]
    params: [train]
    outs: [results/model]
  evaluate:
    cmd: python evaluate.py
    deps: [evaluate.py, data/prepared, results/model]
    params: [evaluate]
    outs: [results/metrics/report.json]
    metrics: [results/metrics/metrics.json]
  visualize:
    cmd: python visualize.py
    deps: [visualize.py, results/metrics/report.json]
    outs: [results/figures]
"""

PARAMS = """\
download:
  dataset: regdb
preprocess:
  regdb_split: 1
train:
  epochs: 2
  meet: []
evaluate:
  feature: bnneck
"""

PREPROCESS = """\
from common import *

write("data/prepared/split.txt", str(params["preprocess"]["regdb_split"]))
"""

TRAIN = """\
from common import *

split = pathlib.Path("data/prepared/split.txt").read_text()
ran(f"train {split}")
if (home / f"wrong-{split}").exists():
    print(f"error: split {split} has a list without a file", file=sys.stderr)
    sys.exit(2)
if (home / f"crash-{split}").exists():
    sys.exit("crash at epoch 1")
if (home / f"endless-{split}").exists():
    def stop(number, frame):
        write(home / f"stopped-{split}", "saved")
        sys.exit(143)
    signal.signal(signal.SIGTERM, stop)
    write(home / f"pid-{split}", str(os.getpid()))
    while True:
        time.sleep(0.05)
(home / f"here-{split}").touch()
for other in params["train"]["meet"]:
    while not (home / f"here-{other}").exists():
        time.sleep(0.02)
write("results/model/weights.txt", f"{split} {params['train']['epochs']}")
"""

EVALUATE = """\
from common import *

split, epochs = map(int, pathlib.Path("results/model/weights.txt").read_text().split())
feature = params["evaluate"]["feature"]
names = ("rank1", "rank5", "rank10", "rank20", "mAP", "mINP")

def report(direction, name, start, re_ranking=False):
    own = {"dataset": "regdb", "mode": None, "shots": None, "sampler": None, "direction": direction, "feature": name,
           "re_ranking": re_ranking, "trials": 1, "queries": 2060, "valid_queries": 2060, "gallery": 2060}
    figures = {m: {"mean": start + 0.01 * i + 0.003 * split ** 2 + 0.0001 * epochs, "std": 0.0}
               for i, m in enumerate(names)}
    return {**own, **figures, "cmc": [], "flip": False,
            "embedding": {"backend": "torch", "precision": "fp32"}, "split": split}

reports = [
    report(direction, name, start, re_ranking)
    for direction, start in (("visible-to-infrared", 0.3), ("infrared-to-visible", 0.2))
    for name, re_ranking in (("bnneck", False), ("bnneck", {"k1": 20, "k2": 6, "lambda": 0.3}), ("pooled", False))
]
write("results/metrics/report.json", json.dumps(reports))
write("results/metrics/metrics.json", json.dumps({"visible-to-infrared": {"rank1": reports[0]["rank1"]["mean"]}}))
"""

VISUALIZE = """\
from common import *

ran("visualize")
write("results/figures/note.txt", "a picture")
"""

FILES = {
    "dvc.yaml": STAGES,
    "params.yaml": PARAMS.replace("dataset: regdb", "dataset: synthetic"),
    "presets/regdb.yaml": PARAMS,
    "presets/smoke.yaml": PARAMS.replace("dataset: regdb", "dataset: synthetic"),
    "common.py": COMMON,
    "preprocess.py": PREPROCESS,
    "train.py": TRAIN,
    "evaluate.py": EVALUATE,
    "visualize.py": VISUALIZE,
}


def setup(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A fresh project in `folder` with these files committed; returns it and the folder of what the programs report."""
    root, home = tiny_project.setup(folder, monkeypatch)
    (root / "prepare.py").unlink()
    for name, text in FILES.items():
        (root / name).write_text(text)
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message=splits")
    return root, home


def figure(split: int, *, direction: str, metric: str, epochs: int = 2) -> float:
    """What `evaluate` reports of the feature bnneck, in percent, written down anew."""
    start = {"visible-to-infrared": 30.0, "infrared-to-visible": 20.0}[direction]
    place = ["rank1", "rank5", "rank10", "rank20", "mAP", "mINP"].index(metric)
    return start + place + 0.3 * split * split + 0.01 * epochs


def trained(home: Path) -> list[str]:
    """The splits that were truly trained so far, in order."""
    return [run.removeprefix("train ") for run in tiny_project.runs(home) if run.startswith("train ")]


def summary(root: Path, name: str = "regdb") -> dict[str, Any]:
    """The summary in the user's project."""
    return json.loads((root / "results" / "regdb" / f"{name}.json").read_text())

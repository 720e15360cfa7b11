"""The tiny project with grids: trainings whose figures follow from the seed and the parameters.

Files in the home folder decide what `train` does with an effect: `wrong-3` makes effect 3 a user's mistake, `crash-3` a
crash, `diverge-3` a divergence, `endless-3` a training that ends by SIGTERM alone.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import tiny_project
from tiny_project import COMMON, git

STAGES = """\
stages:
  train:
    cmd: python train.py
    deps: [train.py, people.csv]
    params: [seed, download.dataset, preprocess, train]
    outs:
      - results/model
      - results/train/history.csv
      - results/train/run.json
  evaluate:
    cmd: python evaluate.py
    deps: [evaluate.py, results/model]
    params: [evaluate]
    metrics: [results/metrics/metrics.json]
"""

PARAMS = """\
seed: 0
download: { dataset: synthetic }
preprocess: { regdb_split: 1 }
train:
  epochs: 2
  effect: 0
  meet: []
  batch: { identities: 8, images: 4 }
  steps_per_epoch: 10
evaluate:
  feature: bnneck
"""

TRAIN = """\
from common import *

seed, train = params["seed"], params["train"]
effect = train["effect"]
ran(f"train {effect} {seed} {os.environ.get('MSCLNET_GRID_CELL')}")
if (home / f"wrong-{effect}").exists():
    print("error: train.effect is wrong: take another", file=sys.stderr)
    sys.exit(2)
if (home / f"crash-{effect}").exists():
    sys.exit("crash at epoch 1")
if (home / f"diverge-{effect}").exists():
    message = "training stopped in epoch 2, step 20: loss_inter = nan. Take the bounded form"
    steps = [{"step": 19, "total": 3.123456, "feature_norm": 9.0}, {"step": 20, "total": None, "feature_norm": 1e6}]
    write("results/train/history.csv", "epoch,loss_identity,images_per_second\\n1,4.0,320.0\\n")
    write("results/train/diverged.json", json.dumps({"message": message, "epoch": 2, "step": 20, "last_steps": steps}))
    print(f"error: {message}", file=sys.stderr)
    sys.exit(2)
if (home / f"endless-{effect}").exists():
    def stop(number, frame):
        (home / f"stopped-{effect}").touch()
        sys.exit(143)
    signal.signal(signal.SIGTERM, stop)
    write(home / f"pid-{effect}", str(os.getpid()))
    while True:
        time.sleep(0.05)
(home / f"here-{effect}-{seed}").touch()
for other in train["meet"]:
    while not (home / f"here-{other}-{seed}").exists():
        time.sleep(0.02)
lines = ["epoch,loss_identity,images_per_second,val_score,val_i2v_rank1,val_v2i_rank1"]
for epoch in range(1, train["epochs"] + 1):
    score = f"{10 + effect + seed * seed + epoch / 8}"
    last = epoch == train["epochs"]
    lines.append(f"{epoch},{4 / epoch},320.0,{score if last else ''},{score if last else ''},{score if last else ''}")
write("results/train/history.csv", "\\n".join(lines) + "\\n")
write("results/train/run.json", json.dumps({"run_id": f"run-{effect}-{seed}", "kept_epoch": train["epochs"]}))
write("results/model/weights.txt", f"{effect} {seed}")
"""

EVALUATE = """\
from common import *

ran("evaluate")
effect, seed = map(int, pathlib.Path("results/model/weights.txt").read_text().split())
figures = {"rank1": 30.0 + 2 * effect + seed, "mAP": 20.0 + effect + seed * seed}
write("results/metrics/metrics.json", json.dumps({
    "validation": {"score": 10.0 + effect},
    "all-1shot": {"mean": figures, "std": {"rank1": 1.0, "mAP": 1.0}, "random": {"rank1": 1.0, "mAP": 2.0}},
    "indoor-1shot": {"mean": {"rank1": 50.0, "mAP": 40.0}},
}))
"""

ABLATION = """\
name: ablation
title: The table
preset: small
overrides: { train.epochs: 3 }
seeds: [0, 1]
until: evaluate
score: test
baseline: B
rows:
  - name: B
    paper: { rank1: 59.82, mAP: 56.07 }
  - name: three
    overrides: { train.effect: 3 }
  - name: five
    title: B + five
    overrides: { train: { effect: 5 } }
    paper: { rank1: 62.0 }
    note: nested keys mean the same
"""

SCREENING = """\
name: screening
title: Validation alone
preset: small
seeds: [0, 1, 2]
until: train
score: validation
baseline: B
rows: ablation
"""

REGDB = """\
name: regdb
title: Splits
preset: regdb
seeds: [0]
until: evaluate
score: test
mean_over_rows: true
rows:
  - { name: split-1, overrides: { preprocess.regdb_split: 1 } }
  - { name: split-2, overrides: { preprocess.regdb_split: 2 } }
  - { name: split-3, overrides: { preprocess.regdb_split: 3 } }
"""

FILES = {
    "dvc.yaml": STAGES,
    "params.yaml": PARAMS,
    "presets/small.yaml": PARAMS,
    "presets/smoke.yaml": PARAMS,
    "presets/regdb.yaml": PARAMS.replace("dataset: synthetic", "dataset: regdb"),
    "experiments/ablation.yaml": ABLATION,
    "experiments/screening.yaml": SCREENING,
    "experiments/regdb.yaml": REGDB,
    "common.py": COMMON,
    "train.py": TRAIN,
    "evaluate.py": EVALUATE,
    "people.csv": "identity\n1\n",
}


def setup(folder: Path, monkeypatch: pytest.MonkeyPatch, *, processes: bool = False) -> tuple[Path, Path]:
    """A fresh project in `folder` with these files committed; returns it and the folder of what the programs report."""
    root, home = tiny_project.setup(folder, monkeypatch, processes=processes)
    for name, text in FILES.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text(text)
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message=grids")
    return root, home


def trained(home: Path) -> list[str]:
    """Effect and seed of what was truly trained so far, in order."""
    runs = [run.split() for run in tiny_project.runs(home) if run.startswith("train ")]
    return [f"{run[1]} {run[2]}" for run in runs]


def records(root: Path, grid: str) -> dict[tuple[str, int], dict[str, Any]]:
    """The committed records of a grid by row and seed."""
    file = root / "experiments" / "results" / f"{grid}.jsonl"
    found = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    return {(record["row"], record["seed"]): record for record in found}


def record(root: Path, grid: str, row: str, seed: int) -> dict[str, Any]:
    """A cell's committed record."""
    return records(root, grid)[row, seed]

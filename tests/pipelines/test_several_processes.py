"""Training and embedding in two processes, at smoke size."""

import csv
import json

import numpy as np
import pytest

pytestmark = pytest.mark.pipeline

TWO = {"MSCLNET_PROCESSES": "2", "MSCLNET_DEVICE": "cpu"}
TORCHRUN = ("python", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


@pytest.mark.full_size
def test_two_processes_embed_what_one_does(project):
    """Started by torchrun; tests/test_shared_embedding.py has the same without new processes."""
    expected = {
        split: dict(np.load(project.root / f"results/embeddings/{split}.npz")) for split in ("val", "test")
    }
    project.run(*TORCHRUN, "-m", "pipelines.stages.embed", own_process=True, MSCLNET_DEVICE="cpu")
    for split, arrays in expected.items():
        found = dict(np.load(project.root / f"results/embeddings/{split}.npz"))
        assert set(found) == set(arrays)
        for name, values in arrays.items():
            assert found[name].tobytes() == values.tobytes(), (split, name)


def test_two_processes_train_together_and_one_speaks(project):
    from mlflow import MlflowClient

    before = (project.root / "results/train/model.safetensors").read_bytes()
    forget_checkpoints(project)
    done = project.run("python", "-m", "pipelines.stages.train", own_process=True, **TWO)
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    bars = {line.partition(":")[0] for line in done.stderr.replace("\r", "\n").splitlines() if line}
    assert bars == {"train", "warning"}
    assert done.stderr.count("warning: ") == 1, "that so few pixels reach the network is said once"
    assert (project.root / "results/train/model.safetensors").read_bytes() != before
    rows = list(csv.DictReader((project.root / "results/train/history.csv").open()))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert [bool(row["val_score"]) for row in rows] == [False, True, True]
    run_id = json.loads((project.root / "results/train/run.json").read_text())["run_id"]
    run = MlflowClient(f"sqlite:///{project.root}/mlruns/mlflow.db").get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["world_size"] == "2"
    assert run.data.params["train.batch.identities"] == "4"  # of both together
    again = project.run("python", "-m", "pipelines.stages.train", MSCLNET_DEVICE="cpu")
    assert again.stdout.startswith("resumed after epoch 3"), "one process takes over from two"


def forget_checkpoints(project):
    for path in project.root.glob("checkpoints/*/*"):
        path.unlink()

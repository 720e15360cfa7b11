"""What a user can do wrong: each mistake gets one clear message, no traceback, and nothing is lost."""

import json
import socket

import pytest

pytestmark = pytest.mark.pipeline


def refused(project, *arguments: str, **environment: str) -> str:
    """Errors of a stage or a command that must end with `error: ` and without a traceback."""
    module, *rest = arguments
    done = project.run("python", "-m", module, *rest, ok=False, **environment)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert "error: " in done.stderr
    return done.stderr


@pytest.mark.parametrize(
    ("stage", "edit", "environment", "words"),
    [
        # The first stage validates the sections of all.
        (
            "download",
            ("retrieval_queries", "retrieval_querys"),
            {},
            ["visualize.retrieval_querys", "did you"],
        ),
        ("download", ("seed: 0 #", "seed: [0 #"), {}, ["params.yaml", "YAML"]),
        ("evaluate", ("[agw]", "[official]"), {}, ["evaluate.permutations"]),
        ("train", None, {"MSCLNET_DEVICE": "cuda:7"}, ["MSCLNET_DEVICE", "cuda:7"]),
        ("train", None, {"MSCLNET_CUDA_GRAPHS": "yes"}, ["MSCLNET_CUDA_GRAPHS", "'on'", "'off'", "'yes'"]),
    ],
)
def test_a_wrong_parameter_or_variable_is_named_before_a_run_begins(project, stage, edit, environment, words):
    if edit:
        project.edit(*edit)
    message = refused(project, f"pipelines.stages.{stage}", MSCLNET_HOME="elsewhere", **environment)
    assert [word for word in words if word not in message] == []
    assert not (project.root / "elsewhere").exists()


@pytest.mark.parametrize(
    ("stage", "missing", "remedy"),
    [
        ("preprocess", "data/raw/images.zip", "dvc repro download"),
        ("train", "data/processed/images_train.npy", "dvc repro preprocess"),
        ("train", "data/processed/manifest.csv", "dvc repro preprocess"),
        ("embed", "results/train/model.safetensors", "dvc repro train"),
        ("evaluate", "results/embeddings/test.npz", "dvc repro embed"),
        ("evaluate", "results/train/run.json", "dvc repro train"),
    ],
)
def test_missing_inputs_are_named_with_the_stage_that_makes_them(project, stage, missing, remedy):
    (project.root / missing).unlink()
    message = refused(project, f"pipelines.stages.{stage}")
    assert missing in message
    assert remedy in message


def test_a_preset_by_its_command(project):
    before = (project.root / "params.yaml").read_bytes()
    assert "did you mean 'synthetic'" in refused(project, "pipelines", "preset", "synthetik")
    assert (project.root / "params.yaml").read_bytes() == before
    output = project.run("python", "-m", "pipelines", "preset", "synthetic").stdout
    assert "train.epochs: 3 -> " in output
    presets = project.root / "presets"
    assert (project.root / "params.yaml").read_bytes() == (presets / "synthetic.yaml").read_bytes()


def test_weights_of_another_configuration_are_refused(project):
    spec_path = project.root / "results/train/network.json"
    spec = json.loads(spec_path.read_text())
    spec["model"]["width"] = 16
    spec_path.unlink()  # a hard link into DVC's cache
    spec_path.write_text(json.dumps(spec))
    message = refused(project, "pipelines.stages.embed")
    assert "model.safetensors" in message
    assert "another configuration" in message


def test_a_tracking_server_that_is_down_stops_the_training_at_once(project):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://user:secret@127.0.0.1:{free.getsockname()[1]}"
    message = refused(project, "pipelines.stages.train", MLFLOW_TRACKING_URI=address)
    assert "MLFLOW_TRACKING_URI" in message
    assert "secret" not in message


def test_what_a_server_missed_is_sent_by_one_command(project, empty_database):
    """To a server that has never heard of the run, as after an outage of the old one."""
    other = project.root / "mlruns/other.db"
    other.write_bytes(empty_database.read_bytes())
    files = ("results/train/history.csv", "results/train/run.json")
    command = ("python", "-m", "pipelines", "resend", *files)
    done = project.run(*command, MLFLOW_TRACKING_URI=f"sqlite:///{other}")
    rows = (project.root / files[0]).read_text().splitlines()
    cells = sum(bool(cell) for row in rows[1:] for cell in row.split(",")[1:])
    assert str(cells) in done.stdout + done.stderr

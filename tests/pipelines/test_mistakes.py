"""What a user can do wrong: each mistake gets one clear message, no traceback, and nothing is lost."""

import json
import socket

import pytest

pytestmark = pytest.mark.pipeline


def refused(project, *command: str, code: int = 2, **environment: str) -> str:
    """Output of a command that must end with `error: ` and without a traceback."""
    done = project.run(*command, ok=False, **environment)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert "error: " in done.stderr
    return done.stderr


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            "  retrieval_queries: 3",
            "  retrieval_querys: 3",
            ["visualize.retrieval_querys", "retrieval_queries"],
        ),
        ("  retrieval_queries: 3", "  retrieval_queries: three", ["visualize.retrieval_queries", "three"]),
        ("  flip: 0.5", "  flip: 1.5", ["augment.flip", "1.5"]),
        ("seed: 0 #", "seed: [0 #", ["params.yaml", "YAML"]),
    ],
)
def test_a_mistake_in_the_last_section_stops_the_first_stage(project, old, new, words):
    project.edit(old, new)
    message = refused(project, "python", "-m", "pipelines.stages.download")
    assert all(word in message for word in words)


def test_an_unknown_preset_names_the_known_ones(project):
    before = (project.root / "params.yaml").read_bytes()
    message = refused(project, "python", "-m", "pipelines", "preset", "synthetik")
    assert "synthetik" in message
    assert "did you mean 'synthetic'" in message
    assert (project.root / "params.yaml").read_bytes() == before


def test_a_preset_says_what_it_changed(project):
    output = project.run("python", "-m", "pipelines", "preset", "synthetic").stdout
    assert "train.epochs: 3 -> " in output
    assert (project.root / "params.yaml").read_bytes() == (
        project.root / "presets/synthetic.yaml"
    ).read_bytes()


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
    message = refused(project, "python", "-m", f"pipelines.stages.{stage}")
    assert missing in message
    assert remedy in message


def test_weights_of_another_configuration_are_refused(project):
    spec_path = project.root / "results/train/network.json"
    spec = json.loads(spec_path.read_text())
    spec["model"]["width"] = 16
    spec_path.unlink()  # a hard link into DVC's cache
    spec_path.write_text(json.dumps(spec))
    message = refused(project, "python", "-m", "pipelines.stages.embed")
    assert "model.safetensors" in message
    assert "another configuration" in message


def test_a_tracking_server_that_is_down_stops_the_training_at_once(project):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://user:secret@127.0.0.1:{free.getsockname()[1]}"
    message = refused(project, "python", "-m", "pipelines.stages.train", MLFLOW_TRACKING_URI=address)
    assert "MLFLOW_TRACKING_URI" in message
    assert "secret" not in message


def test_a_device_that_is_not_there_is_named(project):
    message = refused(project, "python", "-m", "pipelines.stages.train", MSCLNET_DEVICE="cuda:7")
    assert "MSCLNET_DEVICE" in message
    assert "cuda:7" in message


def test_a_switch_that_is_neither_on_nor_off_is_told_before_a_run_begins(project):
    message = refused(
        project, "python", "-m", "pipelines.stages.train", MSCLNET_CUDA_GRAPHS="yes", MSCLNET_HOME="elsewhere"
    )
    assert all(word in message for word in ("MSCLNET_CUDA_GRAPHS", "'on'", "'off'", "'yes'"))
    assert not (project.root / "elsewhere").exists()


def test_official_galleries_without_their_file_are_an_error(project):
    project.edit("samplers: [agw]", "samplers: [official]")
    assert "evaluate.permutations" in refused(project, "python", "-m", "pipelines.stages.evaluate")


def test_a_wrong_override_is_refused_before_the_first_stage(project):
    message = refused(project, "python", "-m", "pipelines", "train", "--set", "train.epoch=3")
    assert "train.epochs" in message


def test_what_a_server_missed_is_sent_by_one_command(project):
    """To a server that has never heard of the run, as after an outage of the old one."""
    command = (
        "python",
        "-m",
        "pipelines",
        "resend",
        "results/train/history.csv",
        "results/train/run.json",
    )
    address = f"sqlite:///{project.root}/mlruns/other.db"
    done = project.run(*command, MLFLOW_TRACKING_URI=address)
    rows = (project.root / "results/train/history.csv").read_text().splitlines()
    cells = sum(bool(cell) for row in rows[1:] for cell in row.split(",")[1:])
    assert str(cells) in done.stdout + done.stderr

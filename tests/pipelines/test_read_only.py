"""Folders that a stage must write and cannot: one clear line, and what was there stays."""

import hashlib

import pytest
from permission_bits import obey_permission_bits, read_only

pytestmark = pytest.mark.pipeline


def contents(root):
    """Files of the project's results and data by content."""
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for folder in ("data", "results", "checkpoints")
        for path in (root / folder).rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize(
    ("stage", "folder"),
    [("preprocess", "data/processed"), ("evaluate", "results/metrics")],
)
def test_a_read_only_folder_is_named(project, stage, folder):
    before = contents(project.root)
    with read_only(project.root / folder):
        done = project.run(
            "python", "-m", f"pipelines.stages.{stage}", ok=False, preexec_fn=obey_permission_bits
        )
    assert done.returncode == 2, done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert folder in errors[0]
    assert "no permission; make it readable and writable" in errors[0]
    assert "Traceback" not in done.stderr
    assert contents(project.root) == before

"""The copy of the project on which DVC is timed has everything that the stages name."""

from pathlib import Path

from benchmarks.stages import SmallProject
from pipelines.stages.config import read_yaml


def test_everything_that_the_stages_depend_on_is_copied(tmp_path: Path) -> None:
    project = SmallProject(tmp_path / "project")
    stages = [stage.get("do", stage) for stage in read_yaml(project.root / "dvc.yaml")["stages"].values()]
    named = {str(dep) for stage in stages for dep in stage.get("deps", [])}
    listed = [out for stage in stages for kind in ("outs", "metrics", "plots") for out in stage.get(kind, [])]
    made = {next(iter(out)) if isinstance(out, dict) else out for out in listed}
    fixed = {dep for dep in named if "${" not in dep and dep not in made}
    assert {"data/permutations", "pipelines/stages/train.py"} <= fixed
    assert [dep for dep in sorted(fixed) if not (project.root / dep).exists()] == []

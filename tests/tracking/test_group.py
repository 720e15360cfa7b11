import json
from collections.abc import Callable
from pathlib import Path

import pytest

from msclnet.errors import UserError
from msclnet.tracking.group import RunGroup
from msclnet.tracking.run import Tracker


def open_group(home: Path, name: str = "ablation") -> RunGroup:
    return RunGroup.open(home=home, experiment="grids", name=name, tags={"score": "test"})


def test_a_grid_has_one_run_however_often_it_is_started(home: Path) -> None:
    first = open_group(home)
    first.finish("FAILED")
    again = open_group(home)
    other = open_group(home, "sensitivity")

    assert again.run_id == first.run_id
    assert other.run_id != first.run_id
    run = again.server.client.get_run(again.run_id)
    assert (run.info.status, run.info.run_name) == ("RUNNING", "ablation")
    assert (run.data.tags["grid"], run.data.tags["score"]) == ("ablation", "test")
    again.finish("FINISHED")
    assert again.server.client.get_run(again.run_id).info.status == "FINISHED"


def test_the_history_of_the_newest_training_with_a_tag(home: Path, start: Callable[..., Tracker]) -> None:
    group = open_group(home)
    for factor, cell in ((1.0, "B-s0"), (2.0, "whole-s0")):
        tracker = start(experiment="grids", tags={"mlflow.parentRunId": group.run_id, "grid_cell": cell})
        for epoch in (1, 2):
            tracker.log_metrics({"total": factor * epoch}, step=epoch)
        tracker.log_metrics({"diverging/total": 7.0 * factor}, step=5)
        tracker.log_metrics({"val_score": 30.0 * factor}, step=2)
        tracker.finish("FAILED")

    assert group.history_of("grid_cell", "whole-s0") == [
        {"epoch": 1, "total": 2.0},
        {"epoch": 2, "total": 4.0, "val_score": 60.0},
    ]
    assert group.last_steps_of("grid_cell", "whole-s0") == [{"step": 5, "total": 14.0}]
    assert group.history_of("grid_cell", "nobody") == []
    assert group.last_steps_of("grid_cell", "nobody") == []


def test_files_go_to_the_run_and_a_wrong_id_is_named(home: Path, tmp_path: Path) -> None:
    group = open_group(home)
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "index.html").write_text("page")
    attached = RunGroup.attach(home=home, run_id=group.run_id)
    attached.log_artifact(tmp_path / "report", "report")
    attached.log_json([{"row": "B", "place": "https://me:hunter2x@host/a.zip"}], "rows.json")
    paths = {file.path for file in attached.server.client.list_artifacts(group.run_id)}
    assert paths == {"report", "rows.json"}
    stored = [path.read_text() for path in home.rglob("rows.json")]
    assert [json.loads(text) for text in stored] == [[{"row": "B", "place": "https://***@host/a.zip"}]]
    with pytest.raises(UserError, match="0" * 32):
        RunGroup.attach(home=home, run_id="0" * 32)


def test_the_groups_that_the_store_knows(home: Path, tmp_path: Path, start: Callable[..., Tracker]) -> None:
    assert RunGroup.known(home=tmp_path / "nowhere", names={"ablation"}) == []
    assert not (tmp_path / "nowhere").exists(), "looking makes no database"
    assert RunGroup.known(home=home, names={"ablation"}) == []
    ablation, _ = open_group(home), open_group(home, "sensitivity")
    elsewhere = RunGroup.open(home=home, experiment="others", name="ablation", tags={})
    start(experiment="grids", tags={"mlflow.parentRunId": ablation.run_id}).finish("FINISHED")
    found = RunGroup.known(home=home, names={"ablation", "screening"})
    assert {group.run_id for group in found} == {ablation.run_id, elsewhere.run_id}

"""The gate before the alias `champion`: what it promotes, each reason for which it refuses, and the way back.

The working folder is empty: neither test arrays nor any other file of the project is there to be read.
"""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow_stores import RegisteredNetwork

from msclnet.errors import UserError
from msclnet.retrieval import calibration, comparison
from msclnet.retrieval.comparison import ValidationScores
from msclnet.tracking.champion import find_aliased, rollback, set_champion
from msclnet.tracking.registry import SCORE_TAG, set_candidate
from msclnet.tracking.run import Tracker
from pipelines.release import promotion
from pipelines.stages import gate
from pipelines.stages.gate import Decision, consider
from pipelines.stages.params import Promote
from pipelines.stages.speed import measure_speed, peak_memory

RULES = Promote(gain=0.0, certain=False, slice_loss=5.0, slow_down=0.0, calibration=1.0, approval=False)
Make = Callable[..., str]
Judge = Callable[..., Decision]


def validation(gain: float = 0.0, *, people: int = 12) -> ValidationScores:
    """Scores of 24 visible images by camera 1 and 24 infrared ones by camera 3, each `gain` points above 50 %."""
    rows = np.arange(4 * people)
    infrared = rows % 2 == 1
    found = np.full((len(rows), 3), 0.5 + gain / 100)
    found[infrared, 2] = found[~infrared, 1] = np.nan  # no camera searches its own modality
    return ValidationScores(
        identities=rows % people,
        cameras=np.where(infrared, 3, 1),
        infrared=infrared,
        brightness=np.linspace(0, 255, len(rows)),
        gallery_cameras=np.array([1, 3]),
        rank1=found,
        average_precision=found.copy(),
    )


def one_pair_worse(scores: ValidationScores, points: float) -> ValidationScores:
    """Camera 3 searches camera 1 worse; the whole gallery is as before."""
    rank1, precision = scores.rank1.copy(), scores.average_precision.copy()
    for each in (rank1, precision):
        each[scores.infrared, 1] -= points / 100
    return replace(scores, rank1=rank1, average_precision=precision)


def calibration_with(error: float) -> dict[str, Any]:
    bins = (calibration.ReliabilityBin(1000, 0.5, 0.5 - error),)
    fit = calibration.LogisticFit(10.0, -5.0, 0.05, 12, 1000, reliability=bins, top_reliability=bins)
    return calibration.Calibration("synthetic", False, "0" * 64, {"cross-modal": fit}).to_json()


@pytest.fixture
def tracker(start: Callable[..., Tracker], experiment: str) -> Tracker:
    tracker = start()
    tracker.server.client.create_registered_model(experiment)
    return tracker


@pytest.fixture
def make(tracker: Tracker, experiment: str, tmp_path: Path) -> Make:
    """Registers and evaluates a version: with these scores of queries, on this data set."""

    def register(
        scores: ValidationScores | None = None,
        *,
        score: float = 50.0,
        data: str = "d1",
        error: float | None = None,
    ) -> str:
        folder = tmp_path / f"version-{len(list(tmp_path.iterdir()))}"
        (folder / "artifacts").mkdir(parents=True)
        if scores is not None:
            scores.save(folder / "artifacts" / comparison.FILE)
        if error is not None:
            (folder / "artifacts" / calibration.FILE).write_text(json.dumps(calibration_with(error)))
        client = tracker.server.client
        made = client.create_model_version(experiment, folder.as_uri(), run_id=tracker.run_id)
        set_candidate(tracker, str(made.version), {SCORE_TAG: score}, dataset_digest=data, name=experiment)
        return str(made.version)

    return register


@pytest.fixture
def judge(tracker: Tracker, experiment: str) -> Judge:
    def decide(version: str, *, by_hand: bool = False, force: bool = False, **rules: Any) -> Decision:
        changed = RULES.model_copy(update=rules)
        return consider(tracker.server, experiment, version, changed, by_hand=by_hand, force=force)

    return decide


@pytest.fixture
def champion(tracker: Tracker, experiment: str) -> Callable[[], str | None]:
    def present() -> str | None:
        found = find_aliased(tracker.server, experiment)
        return found and str(found.version)

    return present


def test_a_better_candidate_becomes_champion_and_the_report_says_why(
    make: Make, judge: Judge, champion
) -> None:
    first, second = make(validation()), make(validation(2.0), score=52.0)
    decision = judge(first)
    assert (decision.status, champion()) == ("promoted", first)
    assert "it is the first" in decision.reason
    decision = judge(second, certain=True, gain=1.5, slow_down=0.0)
    assert (decision.status, champion()) == ("promoted", second)
    assert (
        "52.0000 beats 50.0000 of version 1, +2.00 points (95 % interval +2.00 to +2.00)" in decision.reason
    )
    assert {rule.rule: rule.holds for rule in decision.rules} == {"gain": True, "slices": True}
    assert len(decision.slices) == 1 + 2 * (1 + 3) + 2
    assert all(found.mAP.value == pytest.approx(2.0) for found in decision.slices.values())


@pytest.mark.parametrize(
    ("candidate", "rules", "reason"),
    [
        ({"scores": validation(), "score": 50.0}, {}, r"50\.0000 does not beat 50\.0000 of version 1"),
        (
            {"scores": validation(1.0), "score": 51.0},
            {"gain": 1.5},
            r"does not beat .*more than 1\.5 is asked for",
        ),
        (
            {"scores": replace(validation(1.0), rank1=validation(1.0).rank1 * (1 + np.eye(48, 3) * 3))},
            {"certain": True, "gain": 1.5},
            r"more than 1\.5 is asked for, for certain",
        ),
        (
            {"scores": one_pair_worse(validation(3.0), 9.0)},
            {},
            r"camera 3 searches camera 1: -6\.00 points .*a loss of at most 5\.0",
        ),
        (
            {"scores": validation(3.0)},
            {"slow_down": 1.5},
            r"embedding takes 1\.80 times as long .*at most 1\.5",
        ),
        (
            {"scores": validation(3.0), "error": 0.08},
            {"calibration": 0.05},
            r"calibration error: 0\.0800 of the top 20 \(at most 0\.05\)",
        ),
        ({"scores": validation(3.0)}, {"calibration": 0.05}, "calibration error: the candidate has none"),
        ({"scores": validation(3.0), "data": "d2"}, {}, "data set d1, this one on d2: .*not comparable"),
        ({"scores": validation(3.0, people=13)}, {}, "not comparable"),
        ({"score": float("nan")}, {}, "its validation score is nan"),
    ],
    ids=[
        "tie",
        "gain too small",
        "not certain",
        "one slice worse",
        "slower",
        "badly calibrated",
        "not calibrated",
        "another data set",
        "other images",
        "no number",
    ],
)
def test_a_candidate_is_refused_for_the_planted_reason(
    make: Make,
    judge: Judge,
    champion,
    monkeypatch,
    candidate: dict[str, Any],
    rules: dict[str, Any],
    reason: str,
) -> None:
    monkeypatch.setattr(gate, "measure_speed", lambda *versions: {"ratio": 1.8})
    first = make(validation(), error=0.01)
    assert judge(first).status == "promoted"
    second = make(**{"score": 53.0, **candidate})
    with_rules = judge(second, **rules)
    assert (with_rules.status, champion()) == ("refused", first)
    assert re.search(reason, with_rules.reason)
    broken = [rule for rule in with_rules.rules if not rule.holds]
    assert len(broken) == 1
    assert judge(second, force=True, **rules).status == "promoted"
    assert champion() == second


def test_a_rule_may_forbid_the_first_champion(make: Make, judge: Judge, champion) -> None:
    version = make(validation(), error=0.2)
    assert judge(version, calibration=0.1).status == "refused"
    assert champion() is None


def test_rollback_puts_the_former_champions_back_and_they_stay(
    make: Make, judge: Judge, champion, tracker: Tracker, experiment: str
) -> None:
    with pytest.raises(UserError, match="has no champion"):
        rollback(tracker.server, name=experiment)
    versions = [make(validation(gain), score=50 + gain) for gain in (0.0, 1.0, 2.0)]
    for version in versions:
        judge(version)
    assert rollback(tracker.server, name=experiment) == (versions[2], versions[1])
    assert champion() == versions[1]
    refused = judge(versions[2])  # evaluated again
    assert (refused.status, champion()) == ("refused", versions[1])
    assert "a former champion was put back" in refused.reason
    assert rollback(tracker.server, name=experiment) == (versions[1], versions[0])
    with pytest.raises(UserError, match="version 1 is the only champion"):
        rollback(tracker.server, name=experiment)
    assert judge(versions[2], force=True).status == "promoted"
    assert judge(versions[1], force=True).status == "promoted"
    tracker.server.client.delete_model_version(experiment, versions[2])
    assert rollback(tracker.server, name=experiment) == (versions[1], versions[0])


def test_with_approval_a_person_decides(make: Make, judge: Judge, champion) -> None:
    version = make(validation())
    waiting = judge(version, approval=True)
    assert (waiting.status, champion()) == ("awaits approval", None)
    assert "`msclnet promote 1`" in waiting.reason
    assert judge(version, approval=True, by_hand=True).status == "promoted"
    worse = make(validation(-1.0), score=49.0)
    assert judge(worse, approval=True).status == "refused"  # nobody is asked


def test_the_champion_evaluated_again_is_compared_with_nothing(
    make: Make, judge: Judge, champion, tmp_path
) -> None:
    version = make(validation(), error=0.2)
    judge(version)
    (tmp_path / "version-1" / "artifacts" / comparison.FILE).write_bytes(b"damaged: whoever reads it fails")
    decision = judge(version, calibration=0.1, slow_down=1.5)
    assert (decision.status, champion(), decision.rules) == ("champion", version, [])


def test_versions_without_scores_of_queries_are_compared_by_their_score(
    make: Make, judge: Judge, champion
) -> None:
    """Those of a former release."""
    old, new = make(), make(validation(1.0), score=51.0)
    judge(old)
    assert judge(new, certain=True).status == "refused"
    decision = judge(new)
    assert (decision.status, decision.slices, champion()) == ("promoted", {}, new)


def test_a_champion_set_by_hand_without_a_score_is_kept(
    make: Make, judge: Judge, champion, tracker: Tracker, experiment: str
) -> None:
    made = tracker.server.client.create_model_version(experiment, "file:///nowhere", run_id=tracker.run_id)
    set_champion(tracker.server, str(made.version), name=experiment)
    decision = judge(make(validation(9.0), score=59.0))
    assert (decision.status, champion()) == ("refused", str(made.version))
    assert "`msclnet promote 2 --force`" in decision.reason
    tracker.server.client.delete_model_version(experiment, str(made.version))
    assert judge("2").status == "promoted"


def test_an_alias_that_is_not_given_back_is_reported(
    make: Make, judge: Judge, tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = make(validation())
    monkeypatch.setattr(tracker.server.client, "set_registered_model_alias", lambda *arguments: None)
    with pytest.raises(UserError, match=r"the alias champion was set to version 1, but .* gives None back"):
        judge(version)


def test_the_commands_need_the_parameters_and_the_registry_alone(
    make: Make, champion, experiment: str, tracker: Tracker, home: Path, tmp_path: Path, monkeypatch, capsys
) -> None:
    """The folder holds params.yaml: no results, no data, and above all no test arrays."""
    (tmp_path / "project").mkdir()
    text = (Path(__file__).resolve().parents[2] / "presets/synthetic.yaml").read_text(encoding="utf-8")
    (tmp_path / "project/params.yaml").write_text(text, encoding="utf-8")
    monkeypatch.setenv("MSCLNET_HOME", str(home))
    monkeypatch.chdir(tmp_path / "project")
    with pytest.raises(UserError, match=r"msclnet has no version with the alias candidate .*name a version"):
        promotion.promote(None, model=None, force=False)
    for gain in (0.0, 1.0):
        version = make(validation(gain), score=50 + gain)
        promotion.promote(None, model=experiment, force=False)
        assert champion() == version
    make(validation(-1.0), score=49.0)
    with pytest.raises(
        UserError, match=r"does not beat 51\.0000 of version 2.*`--force` promotes it nevertheless"
    ):
        promotion.promote(None, model=experiment, force=False)
    promotion.rollback(model=experiment)
    assert champion() == "1"
    assert (
        f"{experiment}: version 1 is the champion again, in the place of version 2" in capsys.readouterr().out
    )
    files = {entry.path for entry in tracker.server.client.list_artifacts(tracker.run_id, "promotion")}
    assert files == {"promotion/promotion.html", "promotion/promotion.json"}
    assert [path.name for path in (tmp_path / "project").iterdir()] == ["params.yaml"]


def test_two_networks_are_measured_in_turn(registered_network: RegisteredNetwork) -> None:
    version = registered_network.version
    found = measure_speed(registered_network.tracker.server, "network", version, version)
    assert found["ratio"] > 0
    for who in ("candidate", "champion"):
        assert found[who]["milliseconds"] > 0
        assert found[who]["mebibytes"] > 0


def test_the_most_memory_is_that_of_the_tensors_at_a_time() -> None:
    import torch

    def work() -> None:
        first, second = torch.empty(1000), torch.empty(2000)
        del first
        third = torch.empty(500)
        del second, third

    assert peak_memory(work, torch.device("cpu")) == 4 * 3000


def test_the_page_shows_rules_and_slices(make: Make, judge: Judge, tmp_path: Path) -> None:
    judge(make(validation()))
    decision = judge(make(one_pair_worse(validation(3.0), 9.0), score=53.0))
    gate.write_report(decision, tmp_path / "promotion.json", tmp_path / "promotion.html")
    stored = json.loads((tmp_path / "promotion.json").read_text())
    assert (stored["status"], stored["champion"]["score"]) == ("refused", 50.0)
    assert stored["slices"]["camera 3 searches camera 1"]["score"]["high"] == pytest.approx(-6.0)
    page = (tmp_path / "promotion.html").read_text()
    assert page.count("<tr") == page.count("</tr>") == 1 + 2 + 1 + 5 + 1 + len(stored["slices"])
    assert '<td class="number worse">-6.00 (-6.00 to -6.00)</td>' in page
    assert '<tr class="broken"><td>slices</td><td>no</td>' in page

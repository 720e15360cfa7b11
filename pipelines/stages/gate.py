"""The gate before the alias `champion`: candidate against champion, by the rules of `promote:` in params.yaml.

All that is compared lies with the registered versions: the scores of the validation images as queries, the calibration,
and the networks where their speed is asked for. No test identity and no file of the project is read.
"""

import json
import math
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from msclnet.retrieval import calibration, comparison
from msclnet.retrieval.comparison import Difference, ValidationScores
from pipelines.stages.params import Promote
from pipelines.stages.paths import fresh, write_json
from pipelines.stages.speed import measure_speed

if TYPE_CHECKING:
    from msclnet.tracking.server import Server

Status = Literal["promoted", "champion", "awaits approval", "refused", "not decided"]
ALL = "all"  # the slice of all queries
PAIRS = "cross-modal"  # whose calibration counts: what a search is by default


@dataclass(frozen=True)
class Version:
    """What the registry knows of one version; None where it was registered by hand or by a former release."""

    version: str
    run_id: str
    score: float | None  # of the validation, in percent
    dataset: str | None  # digest of the data set that it was validated on
    scores: ValidationScores | None = field(repr=False)
    calibration_error: float | None  # of the top results, in [0, 1]
    exports: Mapping[str, float]  # lowest cosine between the network and each exported file
    rolled_back: str | None  # when a former champion was put back in its place

    def facts(self) -> dict[str, Any]:
        """For the report."""
        names = ("version", "run_id", "score", "dataset", "calibration_error", "exports")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True)
class Rule:
    """One rule and whether it holds; `text` says what was found."""

    rule: str
    holds: bool
    text: str


@dataclass
class Decision:
    """What the gate found, and what it did."""

    model: str
    candidate: dict[str, Any]  # facts of the version
    champion: dict[str, Any] | None  # likewise; None before the first
    status: Status = "not decided"  # of the candidate
    reason: str = ""  # in one sentence
    limits: dict[str, Any] = field(default_factory=dict)  # the section `promote`
    rules: list[Rule] = field(default_factory=list)  # those that could be applied
    slices: dict[str, Difference] = field(default_factory=dict)  # empty without scores of the same images
    speed: dict[str, Any] | None = None  # see `measure_speed`; None where it was not asked for


def consider(
    server: "Server", name: str, version: str, rules: Promote, *, by_hand: bool = False, force: bool = False
) -> Decision:
    """Make a version of the registered model `name` the champion if the rules hold.

    Args:
        server: The MLflow store with the registry.
        name: Registered model.
        version: The candidate.
        rules: Section `promote` of params.yaml.
        by_hand: A person asks for it, which is the approval.
        force: Promote it whatever the rules say.
    """
    from msclnet.tracking.champion import find_aliased, promotion_lock, set_champion

    with promotion_lock(server):
        champion = find_aliased(server, name)
        present = champion and str(champion.version)
        if present == version:
            facts = read_version(server, name, version, files=False).facts()
            return Decision(
                name, facts, facts, "champion", f"{name} version {version} is the champion already"
            )
        candidate = read_version(server, name, version)
        former = read_version(server, name, present) if present else None
        decision = Decision(name, candidate.facts(), former and former.facts(), limits=rules.model_dump())
        measure = partial(measure_speed, server, name, version, present or "")
        decision.rules = apply_rules(decision, candidate, former, rules, measure)
        broken = [rule.text for rule in decision.rules if not rule.holds]
        this = f"{name} version {version}"
        found = "; ".join(
            broken or [rule.text for rule in decision.rules if rule.rule in ("champion", "gain")]
        )
        if broken and not force:
            decision.status = "refused"
            decision.reason = f"{this} does not become champion: {found}"
        elif rules.approval and not by_hand:
            decision.status = "awaits approval"
            decision.reason = (
                f"{this} may become champion, when a person agrees (`msclnet promote {version}`): {found}"
            )
        else:
            set_champion(server, version, name=name)
            decision.status = "promoted"
            decision.reason = f"{this} is the champion now{', by force' if broken else ''}: {found}"
    return decision


def read_version(server: "Server", name: str, version: str, *, files: bool = True) -> Version:
    """Read what the registry has of a version; `files`: its stored files as well."""
    from msclnet.tracking.champion import ROLLED_BACK_TAG
    from msclnet.tracking.registry import DIGEST_TAG, SCORE_TAG, read_file
    from msclnet.tracking.server import explained

    scores = error = None
    with explained(server), tempfile.TemporaryDirectory() as folder:
        found = server.client.get_model_version(name, version)
        metrics = server.client.get_run(found.run_id).data.metrics if found.run_id else {}
        get = partial(read_file, server, version, name=name, folder=Path(folder))
        if files and (path := get(comparison.FILE)):
            scores = ValidationScores.load(path)
        if files and (path := get(calibration.FILE)):
            fits = calibration.Calibration.from_json(json.loads(path.read_text(encoding="utf-8"))).fits
            error = calibration.calibration_error(fits[PAIRS].top_reliability) if PAIRS in fits else None
    return Version(
        version=version,
        run_id=str(found.run_id),
        score=float(found.tags[SCORE_TAG]) if SCORE_TAG in found.tags else None,
        dataset=found.tags.get(DIGEST_TAG) or None,
        scores=scores,
        calibration_error=error,
        exports={name: value for name, value in metrics.items() if name.startswith("export/")},
        rolled_back=found.tags.get(ROLLED_BACK_TAG),
    )


def apply_rules(
    decision: Decision,
    candidate: Version,
    champion: Version | None,
    rules: Promote,
    measure: Callable[[], dict[str, Any]],
) -> list[Rule]:
    """Each rule that these versions can be held against; the decision gets the comparison and the speed."""
    found = []
    if candidate.rolled_back:
        text = f"a former champion was put back in its place on {candidate.rolled_back}"
        found.append(Rule("not rolled back", False, f"{text} (`--force` promotes it nevertheless)"))
    error = candidate.calibration_error
    if error is not None or rules.calibration < 1:
        text = (
            "the candidate has none" if error is None else f"{error:.4f} of the top {calibration.TOP_RESULTS}"
        )
        holds = error is not None and error <= rules.calibration
        found.append(Rule("calibration", holds, f"calibration error: {text} (at most {rules.calibration})"))
    score = candidate.score
    if score is None or not math.isfinite(score):
        return [*found, Rule("score", False, f"its validation score is {score}")]
    if champion is None:
        return [*found, Rule("champion", True, f"it is the first (validation score {score:.4f})")]
    return [*found, *_against(decision, candidate, champion, rules, measure)]


def _against(
    decision: Decision,
    candidate: Version,
    champion: Version,
    rules: Promote,
    measure: Callable[[], dict[str, Any]],
) -> list[Rule]:
    this = f"champion version {champion.version}"
    by_hand = f"To promote by hand: `msclnet promote {candidate.version} --force`"
    if champion.score is None or champion.dataset is None:
        return [Rule("score", False, f"{this} has no validation score to compare with. {by_hand}")]
    own, theirs = candidate.scores, champion.scores
    same = own is None or theirs is None or own.of_same_images(theirs)
    if champion.dataset != candidate.dataset or not same:
        text = (
            f"{this} was validated on the data set {champion.dataset[:12]}, this one on "
            f"{str(candidate.dataset)[:12]}: their scores are not comparable. {by_hand}, or give each data set its "
            "own registered model (tracking.registered_model)"
        )
        return [Rule("data set", False, text)]
    if own is not None and theirs is not None:
        decision.slices = comparison.compare(own, theirs)
    found = [_gain(decision, candidate, champion, rules)]
    if decision.slices:
        found.append(_worst_slice(decision, rules))
    if rules.slow_down:
        decision.speed = measure()
        ratio = decision.speed["ratio"]
        text = f"embedding takes {ratio:.2f} times as long as with {this} (at most {rules.slow_down})"
        found.append(Rule("speed", ratio <= rules.slow_down, text))
    return found


def _gain(decision: Decision, candidate: Version, champion: Version, rules: Promote) -> Rule:
    assert candidate.score is not None
    assert champion.score is not None
    gain = candidate.score - champion.score
    low = decision.slices[ALL].score.low if decision.slices else None
    holds = gain > rules.gain and (not rules.certain or (low is not None and low > rules.gain))
    compared = (
        f"validation score {candidate.score:.4f} {'beats' if holds else 'does not beat'} {champion.score:.4f}"
    )
    text = f"{compared} of version {champion.version}"
    if decision.slices:
        text += f", {_points(decision.slices[ALL])}"
    if rules.gain or rules.certain:
        text += f" (more than {rules.gain} is asked for{', for certain' if rules.certain else ''})"
    return Rule("gain", holds, text)


def _worst_slice(decision: Decision, rules: Promote) -> Rule:
    """The slice with the largest loss among those whose interval lies below 0."""
    certain = {
        name: found
        for name, found in decision.slices.items()
        if name != ALL and found.score.high is not None and found.score.high < 0
    }
    if not certain:
        return Rule("slices", True, "no slice is worse for certain")
    name = min(certain, key=lambda name: certain[name].score.value)
    holds = -certain[name].score.value <= rules.slice_loss
    return Rule("slices", holds, f"{name}: {_points(certain[name])} (a loss of at most {rules.slice_loss})")


def _points(found: Difference) -> str:
    gain = found.score
    interval = (
        "too few people for an interval"
        if gain.low is None
        else f"95 % interval {gain.low:+.2f} to {gain.high:+.2f}"
    )
    return f"{gain.value:+.2f} points ({interval})"


def write_report(decision: Decision, json_path: Path, page: Path) -> None:
    """Write a decision for machines, and as one page of HTML for people."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    write_json(json_path, asdict(decision))
    environment = Environment(
        loader=PackageLoader("pipelines.stages"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    text = environment.get_template("promotion.html").render(decision=decision, top=calibration.TOP_RESULTS)
    fresh(page).write_text(text, encoding="utf-8")

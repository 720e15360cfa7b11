"""`msclnet restore`: a run's code, parameters, data and results in a folder of their own, and its numbers again."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import chdir, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from msclnet.errors import UserError
from msclnet.tracking.stored_run import StoredRun, stored_run
from pipelines import settings
from pipelines.orchestration.dvc_files import missing_outputs, output_files, read_stages, stages_between
from pipelines.orchestration.stage_process import Log, StageFailedError, run_dvc
from pipelines.orchestration.workspace import base_commit, cache_folder, configure, git
from pipelines.stages.config import flatten, load_yaml
from pipelines.stages.lineage import CHANGES, FOLDER, LOCK, NO_COMMIT, processor
from pipelines.stages.paths import MANIFEST, METRICS, RAW, WEIGHTS, embeddings_of, images_of, link_raw_data

if TYPE_CHECKING:
    from dvc.repo import Repo

SAME = "the same"
# Per stage what does not hold the run's id, dates or speed.
COMPARED = {
    "download": (RAW,),
    "preprocess": (*map(images_of, ("train", "val", "test")), MANIFEST),
    "train": (WEIGHTS,),
    "embed": (*map(embeddings_of, ("val", "test")),),
    "evaluate": (METRICS,),
}


def restore(
    root: Path,
    run: str,
    *,
    into: Path | None = None,
    verify: bool = False,
    first_stage: str | None = None,
    log: Log = print,
) -> bool:
    """Bring a run's state back into a new folder, and compare its numbers where that is asked for.

    Args:
        root: The project.
        run: An MLflow run's id, or the name of a DVC experiment.
        into: A folder that is empty or does not exist; default: restored/<first digits of the run's id>.
        verify: Whether the stages are run again there, in a registry and home of its own.
        first_stage: The first one to run again; default: all.
        log: Receives each line.

    Returns:
        Whether the figures are the recorded ones; True where nothing was compared.
    """
    found = stored_run(run, home=settings.home(root))
    folder = (into or root / "restored" / found.run_id[:8]).absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is there already: remove it, or name another with --into")
    lock = found.artifact(f"{FOLDER}/{LOCK}")
    if lock is None:
        raise UserError(
            f"run {found.run_id} holds no {FOLDER}/{LOCK}, so its data are not known: it was made before runs kept "
            "it, or the server missed it"
        )
    restore_code(root, found, folder)
    (folder / LOCK).write_bytes(lock)
    configure(root, folder)
    link_raw_data(root, folder)
    missing = restore_data(root, folder)
    log(f"run {found.run_id} ({found.name}) is restored in {folder}")
    if missing and not verify:
        names = "".join(f"\n  {name}" for name in missing)
        raise UserError(
            f"not restored, for neither the DVC cache {cache_folder(root)} nor a remote holds them:{names}\n"
            f"`dvc repro` in {folder} makes them again, and so does --verify"
        )
    if not verify:
        return True
    run_again(root, folder, first_stage=first_stage, log=log)
    return report_differences(folder, found, lock, cache=cache_folder(root), log=log)


def restore_code(root: Path, run: StoredRun, folder: Path) -> None:
    """Clone the project at the run's commit, and apply what was not committed."""
    commit = run.tags.get("git_commit", NO_COMMIT).removesuffix("-dirty")
    if commit == NO_COMMIT:
        raise UserError(f"run {run.run_id} was made outside of a git repository: its code is not known")
    base_commit(root)
    try:
        git(root, "cat-file", "-e", f"{commit}^{{commit}}")
    except UserError:
        raise UserError(
            f"commit {commit} of run {run.run_id} is not in the git repository {root}: fetch it from the clone where "
            "the run was made"
        ) from None
    git(root, "clone", "--quiet", "--no-checkout", str(root), str(folder))
    git(folder, "checkout", "--quiet", "--detach", commit)
    changes = run.artifact(CHANGES)
    if changes is None and run.tags.get("git_dirty") == "true":
        raise UserError(f"run {run.run_id} had uncommitted changes, and {CHANGES} is not among its artifacts")
    if changes:
        git(folder, "apply", "--binary", "-", stdin=changes)


def restore_data(root: Path, folder: Path) -> list[str]:
    """Check out what dvc.lock names and the stages after it, from cache or remote; returns the missing outputs."""
    from dvc.config import Config
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    known = Config(dvc_dir=str(root / ".dvc"))
    core = {"site_cache_dir": str(folder / ".dvc" / "tmp" / "site"), "autostage": False}
    if default := known["core"].get("remote"):
        core["remote"] = default
    lock = (folder / LOCK).read_bytes()
    config = {"core": core, "remote": known["remote"]}
    with Repo(str(folder), config=config) as repo:
        if known["remote"] and missing_outputs(lock, cache=cache_folder(root)):
            with suppress(DvcException):  # what did not come is reported as missing
                repo.fetch()
        repo.checkout(force=True, allow_missing=True)
    # The run cache counts paths from the present folder.
    with chdir(folder), Repo(str(folder), config=config) as repo:
        _restore_later_stages(repo, load_yaml(lock, source=str(LOCK))["stages"])
    return missing_outputs((folder / LOCK).read_bytes(), cache=cache_folder(root))


def _restore_later_stages(repo: "Repo", known: Mapping[str, Any]) -> None:
    """Check out the stages that ended after dvc.lock was logged, as far as DVC's run cache has them."""
    from dvc.exceptions import DvcException

    for name in (stage.name for stage in read_stages(Path(repo.root_dir)) if stage.name not in known):
        stage = repo.stage.load_one(name=name)
        try:
            with repo.lock:
                repo.stage_cache.restore(stage)
                stage.save()
                stage.dump(update_pipeline=False)
        except (DvcException, FileNotFoundError):
            return


def run_again(root: Path, folder: Path, *, first_stage: str | None, log: Log) -> None:
    """Run the stages up to the evaluation again, whatever the caches hold; they register and log in the folder."""
    stages = stages_between(read_stages(folder), first_stage=first_stage, last_stage="evaluate")
    own = {"MSCLNET_HOME": str(folder), "MLFLOW_TRACKING_URI": ""}
    environment = settings.stage_environment(root, workspace=folder, extra=own)
    for stage in stages:
        command = ("repro", "--single-item", "--force", stage.name)
        code, tail = run_dvc(folder, *command, environment=environment, log=log)
        if code:
            raise StageFailedError(
                f"stage {stage.name} failed in {folder}; its last lines:\n" + "\n".join(tail)
            )


def report_differences(folder: Path, run: StoredRun, lock: bytes, *, cache: Path, log: Log) -> bool:
    """Print by stage what differs from the record; returns whether the evaluation's figures are the same."""
    recorded: dict[str, Path | bytes] = {}
    for stage in COMPARED:
        recorded |= output_files(lock, stages=[stage], cache=cache)
    if metrics := run.artifact("evaluate/metrics.json"):
        recorded[str(METRICS)] = metrics
    same = {}
    for stage, paths in COMPARED.items():
        found = [difference(recorded[str(p)], folder / p) for p in paths if str(p) in recorded]
        line = "; ".join(dict.fromkeys(found)) if found else "nothing is recorded to compare with"
        same[stage] = set(found) <= {SAME}
        log(f"{stage:10}  {line}")
    if same["evaluate"]:
        log(f"the figures are those of run {run.run_id}")
    elif (then := run.tags.get("processor", "unknown")) != (now := processor()):
        log(f"the run was made on another kind of machine ({then}); this one ({now}) rounds differently")
    return same["evaluate"]


def difference(recorded: Path | bytes, again: Path) -> str:
    """What differs between a file as recorded and as made again: `SAME`, or how far it is from that."""
    content = recorded if isinstance(recorded, bytes) else recorded.read_bytes()
    if content == again.read_bytes():
        return SAME
    measure: Callable[[Any, Path], str] | None = _MEASURES.get(again.suffix)
    return measure(recorded, again) if measure else f"{again.name} has other contents"


def _weights(recorded: Path, again: Path) -> str:
    from safetensors.numpy import load, load_file

    before, after = load(recorded.read_bytes()), load_file(again)
    if {name: array.shape for name, array in before.items()} != {n: a.shape for n, a in after.items()}:
        return "another network"
    largest = max(float(np.abs(before[name].astype(float) - after[name]).max()) for name in before)
    return f"weights differ by up to {largest:.2g}"


def _features(recorded: Path, again: Path) -> str:
    with np.load(recorded, allow_pickle=False) as before, np.load(again, allow_pickle=False) as after:
        a, b = before["bnneck"].astype(float), after["bnneck"].astype(float)
    if a.shape != b.shape:
        return "other images"
    if not len(a):
        return SAME
    cosines = (a * b).sum(1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))
    return f"{again.stem} features have a cosine of {cosines.min():.6f} or more"


def _figures(recorded: Path | bytes, again: Path) -> str:
    text = recorded if isinstance(recorded, bytes) else recorded.read_bytes()
    before, after = flatten(json.loads(text)), flatten(json.loads(again.read_bytes()))
    return "; ".join(_changed(before, after)) or SAME


def _changed(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    for name in dict.fromkeys((*before, *after)):
        if before.get(name) != after.get(name):
            yield f"{name} {before.get(name)} -> {after.get(name)}"


_MEASURES: dict[str, Callable[[Any, Path], str]] = {
    ".safetensors": _weights,
    ".npz": _features,
    ".json": _figures,
}

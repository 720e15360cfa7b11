"""A run as MLflow stores it, read back: its tags and its artifacts."""

import json
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from msclnet.errors import UserError
from msclnet.tracking.masking import brief
from msclnet.tracking.server import Server, connect, exists, explained, tracking_uri


@dataclass(frozen=True)
class StoredRun:
    """A run of an MLflow server."""

    server: Server
    run_id: str
    name: str
    tags: Mapping[str, str]
    params: Mapping[str, str]
    dataset: str  # its name in params.yaml
    counts: Mapping[str, int]  # its images and identities by split
    minutes: float  # how long the training took

    def artifact(self, path: str) -> bytes | None:
        """One of its files, such as `evaluate/metrics.json`; None where it has none of that name."""
        import mlflow.artifacts
        from mlflow import MlflowException

        folder, _, _ = path.rpartition("/")
        with explained(self.server), tempfile.TemporaryDirectory() as target:
            if path not in {each.path for each in self.server.client.list_artifacts(self.run_id, folder)}:
                return None
            try:
                local = mlflow.artifacts.download_artifacts(
                    run_id=self.run_id, artifact_path=path, dst_path=target, tracking_uri=self.server.uri
                )
            except (MlflowException, OSError) as error:
                raise UserError(f"run {self.run_id}: {path} cannot be read ({brief(error)})") from None
            return Path(local).read_bytes()


def stored_run(name: str, *, home: Path) -> StoredRun:
    """The run of an id, or the newest one that trained or evaluated a DVC experiment of this name."""
    if not exists(home):
        raise UserError(
            f"run {name}: there are no runs yet ({tracking_uri(home)} is missing); set MLFLOW_TRACKING_URI to the "
            "server that has it"
        )
    server = connect(home)
    key = "attributes.run_id" if re.fullmatch("[0-9a-f]{32}", name) else "tags.dvc_experiment"
    with explained(server):
        experiments = [each.experiment_id for each in server.client.search_experiments()]
        quoted = name.replace("'", "")
        found = server.client.search_runs(
            experiments, f"{key} = '{quoted}'", max_results=1, order_by=["attributes.start_time DESC"]
        )
    if not found:
        raise UserError(
            f"run {name}: {server.masked_uri} has no run of this id, and none of a DVC experiment of this name; "
            "`msclnet up` shows the runs, `dvc exp show` the experiments"
        )
    run = found[0]
    inputs = run.inputs.dataset_inputs if run.inputs else []
    ended = run.info.end_time or run.info.start_time
    return StoredRun(
        server,
        run.info.run_id,
        run.info.run_name or "",
        tags=dict(run.data.tags),
        params=dict(run.data.params),
        dataset=run.data.tags.get("dataset", ""),
        counts=json.loads(inputs[0].dataset.profile or "{}") if inputs else {},
        minutes=(ended - run.info.start_time) / 60_000,
    )

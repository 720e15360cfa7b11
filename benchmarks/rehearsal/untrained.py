"""Leaves an untrained network where the stage `train` would leave a trained one; runs in a project's folder."""

from msclnet.training.loop import weights_of
from pipelines import settings
from pipelines.stages.config import Params
from pipelines.stages.stage import run_stage
from pipelines.stages.train import build_training, network_spec, open_training_data
from pipelines.stages.training_run import open_run


def write_untrained(params: Params) -> None:
    """data/processed -> results/train and a run in MLflow; everything of a training but its steps."""
    device, data = settings.device(), open_training_data()
    spec = network_spec(params, data)
    with open_run(params, key=data.digest[:16], dataset=data.info(params)) as run:
        training = build_training(params, data, spec, device=device, run=run)
        # The picture of the training wants an epoch.
        training.progress.history.append({"epoch": 0, "learning_rate": 0.0})
        run.finish(training, weights_of(training.network), spec)


if __name__ == "__main__":
    run_stage(write_untrained)

"""Leaves an untrained network where the stage `train` would leave a trained one; runs in a project's folder."""

from msclnet.training.checkpoint import CheckpointFolder
from msclnet.training.loop import weights_of
from pipelines import settings
from pipelines.stages import paths
from pipelines.stages.config import Params
from pipelines.stages.stage import run_stage
from pipelines.stages.train import build_training, start_tracking, write_result

KEY = "rehearsal"


def write_untrained(params: Params) -> None:
    """data/processed -> results/train and a run in MLflow; everything of a training but its steps."""
    paths.TRAIN.mkdir(parents=True, exist_ok=True)
    device = settings.device()
    folder = CheckpointFolder(settings.home() / "checkpoints" / KEY)
    tracker = start_tracking(params, key=KEY, resume=None)
    with tracker.lifetime():
        training = build_training(params, device=device, folder=folder, tracker=tracker, key=KEY)
        # The picture of the training wants an epoch.
        training.progress.history.append({"epoch": 0, "learning_rate": 0.0})
        write_result(params, training, weights_of(training.network), tracker=tracker)


if __name__ == "__main__":
    run_stage(write_untrained)

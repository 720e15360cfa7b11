"""What a stopped training prints: from where the next start resumes, whatever stopped it."""

from pathlib import Path

import pytest

from msclnet.training.checkpoint import CheckpointFolder
from pipelines.stages.training_run import stop_reported

WORDS = "start the same command again"


@pytest.mark.parametrize(
    ("stop", "saved", "line"),
    [
        (
            SystemExit(143),
            (3, 57),
            f"stopped by SIGTERM: {WORDS} to resume after epoch 3 and 57 steps of the next",
        ),
        (KeyboardInterrupt(), (3, 0), f"stopped by Ctrl-C: {WORDS} to resume after epoch 3"),
        (SystemExit(143), None, f"stopped by SIGTERM: nothing was trained yet; {WORDS}"),
        (SystemExit(2), (3, 57), ""),
        (SystemExit("why"), (3, 57), ""),
        (ValueError("why"), (3, 57), ""),
    ],
)
def test_where_it_resumes(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    stop: BaseException,
    saved: tuple[int, int] | None,
    line: str,
) -> None:
    checkpoints = CheckpointFolder(tmp_path)
    if saved:
        checkpoints.save({}, epoch=saved[0], step=saved[1])
    with pytest.raises(type(stop)), stop_reported(checkpoints):
        raise stop
    place = f" (saved in {tmp_path})" if line and saved else ""
    assert capsys.readouterr().err.rstrip("\n") == line + place

"""What is too little for a network: pixels at its first convolution, and channels."""

from pathlib import Path
from typing import Any

import pytest

from msclnet.errors import UserError
from pipelines.stages.config import check_params, read_yaml
from pipelines.stages.train import warn_of_few_pixels

PRESET = Path(__file__).resolve().parents[2] / "presets" / "synthetic.yaml"


@pytest.mark.parametrize(
    ("height", "width", "model", "seen"),
    [
        (288, 144, {}, None),
        (192, 96, {}, None),
        (96, 48, {}, "32 x 16"),
        (96, 48, {"reduction": 1}, None),
        (191, 96, {}, "63 x 32"),
        (192, 95, {}, "64 x 31"),
        (96, 48, {"backbone": "resnet18"}, None),  # ResNets take every pixel
        (62, 40, {"backbone": "resnet18"}, "62 x 40"),
    ],
)
def test_a_warning_names_what_reaches_the_first_convolution(
    height: int, width: int, model: dict[str, Any], seen: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    values = read_yaml(PRESET)
    values["preprocess"] |= {"height": height, "width": width}
    values["model"] |= model
    warn_of_few_pixels(check_params(values, source="params.yaml"))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == (seen is not None)
    if seen:
        assert f"{seen} pixels" in lines[0]
        assert "lower model.reduction" in lines[0]


def test_a_width_below_eight_is_refused_with_the_reason() -> None:
    values = read_yaml(PRESET)
    values["model"]["width"] = 7
    with pytest.raises(UserError, match=r"model\.width.* at least 8, not 7: .*AVX-512.*gradients"):
        check_params(values, source="params.yaml")

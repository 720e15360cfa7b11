"""Which precision is taken, by the instructions that a device is said to have."""

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from msclnet.precision import choose_precision, native_bf16
from pipelines.stages.presets import preset_params
from pipelines.stages.train import with_precision

CPU = torch.device("cpu")
ROOT = Path(__file__).resolve().parents[1]
NATIVE = {"architecture": "x86_64", "avx512_bf16": True, "amx_bf16": False}
WITHOUT = {"architecture": "x86_64", "avx512_bf16": False, "amx_bf16": False, "avx512_f": True}


def pretend(monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, Any], used: str = "AVX512") -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: used)


@pytest.mark.parametrize(
    ("capabilities", "used", "native"),
    [
        (NATIVE, "AVX512", True),
        ({**WITHOUT, "amx_bf16": True}, "AVX512", True),
        (WITHOUT, "AVX512", False),  # AVX-512 of the first generation
        (NATIVE, "AVX2", False),  # ATEN_CPU_CAPABILITY=avx2
        ({"architecture": "x86_64"}, "AVX2", False),
        ({"architecture": "aarch64", "bf16": True}, "DEFAULT", True),
        ({"architecture": "aarch64", "bf16": False}, "DEFAULT", False),
    ],
)
def test_bf16_is_native_where_torch_uses_its_instructions(monkeypatch, capabilities, used, native) -> None:
    pretend(monkeypatch, capabilities, used)
    assert native_bf16(CPU) is native
    assert choose_precision("auto", CPU, key="train.precision") == ("bf16" if native else "fp32")


def test_a_gpu_is_asked_without_its_emulation(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def supported(*, including_emulation: bool) -> bool:
        asked.append(including_emulation)
        return True

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert choose_precision("auto", torch.device("cuda", 0), key="train.precision") == "bf16"
    assert asked == [False]


def test_emulated_bf16_is_taken_with_a_warning(monkeypatch, caplog) -> None:
    pretend(monkeypatch, WITHOUT)
    with caplog.at_level(logging.WARNING):
        assert choose_precision("bf16", CPU, key="embed.precision") == "bf16"
        assert choose_precision("bf16", CPU, key="embed.precision", warn=False) == "bf16"
        assert choose_precision("fp32", CPU, key="embed.precision") == "fp32"
    (message,) = caplog.messages
    for word in ("embed.precision", "bf16", "five times slower", "set embed.precision to auto or fp32"):
        assert word in message


def test_what_was_chosen_is_part_of_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoint key, run.json and MLflow all read the section that this returns."""
    params = preset_params("synthetic", ROOT)
    assert params.train.precision == params.embed.precision == "auto"
    for capabilities, chosen in ((NATIVE, "bf16"), (WITHOUT, "fp32")):
        pretend(monkeypatch, capabilities)
        found = with_precision(params, CPU)
        assert found.section("train") == {**params.section("train"), "precision": chosen}


@pytest.mark.parametrize("preset", ["agw-sysu-mm01", "agw-star-sysu-mm01", "smoke"])
def test_what_repeats_other_runs_stays_in_fp32(preset: str) -> None:
    params = preset_params(preset, ROOT)
    assert params.train.precision == params.embed.precision == "fp32"

"""Chooses the precision of the convolutions: bf16 where the device computes it natively, fp32 elsewhere.

Without the instructions torch emulates bf16: on an AMD EPYC with AVX2 alone, a training step takes five times as
long as in fp32, and a matrix product 45 times.
"""

import logging
from typing import Literal

import torch

Precision = Literal["bf16", "fp32"]

logger = logging.getLogger("msclnet.precision")

# Names of torch.cpu.get_capabilities: x86 with a bf16 dot product, and ARM.
CPU_INSTRUCTIONS = ("avx512_bf16", "amx_bf16", "bf16")
# ATEN_CPU_CAPABILITY can keep torch from instructions that the processor has.
WITHOUT_BF16 = ("DEFAULT", "NO AVX", "AVX2")


def native_bf16(device: torch.device) -> bool:
    """Whether the device has bf16 instructions, and torch uses them."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)  # of the current device
    if device.type != "cpu":
        return False
    capabilities = torch.cpu.get_capabilities()
    if torch.backends.cpu.get_cpu_capability() in WITHOUT_BF16 and capabilities["architecture"] == "x86_64":
        return False
    return any(capabilities.get(name, False) for name in CPU_INSTRUCTIONS)


def choose_precision(asked: str, device: torch.device, *, key: str, warn: bool = True) -> Precision:
    """The precision for `asked` (`auto`, `bf16` or `fp32`); warns where `bf16` is emulated.

    `key` is the parameter that asks. Of several processes one warns.
    """
    if asked == "fp32":
        return "fp32"
    native = native_bf16(device)
    if asked == "bf16" and not native and warn:
        logger.warning(
            "%s is bf16, which this %s only emulates: five times slower than fp32 as measured on an AMD "
            "EPYC with AVX2; set %s to auto or fp32",
            key,
            "processor" if device.type == "cpu" else "device",
            key,
        )
    return "bf16" if asked == "bf16" or native else "fp32"

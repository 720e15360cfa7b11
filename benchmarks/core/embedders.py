"""The ways to compute features at test time: the textbook's, and every back end of ours that is there."""

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from benchmarks.core.presets import HEIGHT, IDENTITIES, WHOLE, WIDTH, build, preset
from benchmarks.textbook.network import TextbookNetwork, normalised
from benchmarks.textbook.weights import copy_weights
from msclnet.errors import UserError
from msclnet.models.network import MSCLNet
from msclnet.training.step import precision_context

BACKENDS = ("torch", "folded", "openvino")
INFRARED = True  # the stream that is measured; the other one is as large


@dataclass(frozen=True)
class Embedder:
    """One way.

    Attributes:
        name: For the table.
        precision: Of the convolutions.
        embed: From uint8 RGB images (N, 288, 144, 3) to BNNeck features (N, 2048); None where it cannot run here.
        reason: Why not.
    """

    name: str
    precision: str
    embed: Callable[[np.ndarray], np.ndarray] | None
    reason: str = ""


def trained_like_network(images: np.ndarray, *, device: torch.device) -> MSCLNet:
    """ResNet-50 with random weights whose batch norms have seen some images, as after loading; channels last."""
    network = build(preset(WHOLE)).to(device)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0  # statistics of this one batch
    some = torch.from_numpy(images[:16]).to(device)
    with torch.no_grad():
        network.train()(some, some, with_synergy=False)
    return network.eval().to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def textbook_function(images: np.ndarray, *, device: torch.device) -> Callable[[], np.ndarray]:
    """The textbook network with our weights, on images that are floating-point numbers already.

    Args:
        images: What it embeds, uint8 RGB (N, 288, 144, 3).
        device: Where.

    Returns:
        A function that gives BNNeck features float32 (N, 2048).
    """
    network = trained_like_network(images, device=device)
    model = preset(WHOLE)["model"]
    with torch.device("meta"):
        textbook = TextbookNetwork(IDENTITIES, inner=model["non_local_inner"], p=model["gem_p"])
    textbook = textbook.to_empty(device=device).eval()
    copy_weights(network, textbook)
    textbook = textbook.to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]
    floats = normalised(torch.from_numpy(images)).to(device)

    def embed() -> np.ndarray:
        with torch.no_grad():
            return textbook.embed(floats, infrared=INFRARED)[1].cpu().numpy()

    return embed


def our_embedders(network: MSCLNet, *, device: torch.device) -> Iterator[Embedder]:
    """Every back end in every precision, those that are missing here included."""
    try:
        build_embedder = importlib.import_module("msclnet.export.backends").build_embedder
    except ImportError:
        build_embedder = None
    for backend in BACKENDS:
        for precision in ("fp32", "bf16"):
            name = f"ours, {backend}, {precision}"
            if build_embedder is None:
                plain = _plain(network, precision, device) if backend == "torch" else None
                yield Embedder(name, precision, plain, "" if plain else "not installed")
                continue
            if backend == "openvino" and device.type != "cpu":
                yield Embedder(name, precision, None, "not measured: runs on the CPU alone")
                continue
            try:
                embed = build_embedder(
                    network, backend=backend, precision=precision, height=HEIGHT, width=WIDTH, device=device
                )
            except UserError as error:
                missing = isinstance(error.__cause__, ImportError)
                yield Embedder(
                    name, precision, None, "not installed" if missing else f"not measured: {error}"
                )
                continue
            yield Embedder(name, precision, _bnneck(embed))


def _bnneck(embed: Any) -> Callable[[np.ndarray], np.ndarray]:
    return lambda images: embed(images, infrared=INFRARED)[1]


def _plain(network: MSCLNet, precision: str, device: torch.device) -> Callable[[np.ndarray], np.ndarray]:
    def embed(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode(), precision_context(precision, device):
            return (
                network.embed(torch.from_numpy(images).to(device), infrared=INFRARED)[1].float().cpu().numpy()
            )

    return embed

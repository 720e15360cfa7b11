"""The networks that are timed: ours from the presets, and the textbook's; their images and training steps."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn

from benchmarks.textbook import TextbookNetwork, baseline_loss, copy_weights, normalised
from benchmarks.timing import NO_BF16
from msclnet.errors import UserError
from msclnet.export.backends import BACKENDS, build_embedder
from msclnet.images.batches import PairBatch
from msclnet.images.decode import decode, resize
from msclnet.losses.objective import Objective
from msclnet.models.build import build_network
from msclnet.models.network import MSCLNet
from msclnet.precision import native_bf16
from msclnet.synthetic.render import render_person
from msclnet.training.cuda_graph import GraphedStep
from msclnet.training.optimizer import build_optimizer, set_rate
from msclnet.training.step import Step, compile_backbone
from pipelines.stages.presets import load_preset

ROOT = Path(__file__).resolve().parents[1]
IDENTITIES = 395  # SYSU-MM01's
HEIGHT, WIDTH = 288, 144

WHOLE = "sysu-mm01"  # the whole method
BASELINE = "agw-sysu-mm01"  # the same network with the baseline's losses alone


def preset(name: str) -> dict[str, Any]:
    """All parameters of a preset."""
    return load_preset(name, ROOT)


def build(parameters: dict[str, Any], *, identities: int = IDENTITIES, seed: int = 0) -> MSCLNet:
    """The preset's network with random weights."""
    torch.manual_seed(seed)
    spec = {"identities": identities, "model": parameters["model"], "synergy": parameters["synergy"]}
    return build_network(spec, pretrained=False)


def random_images(
    count: int, *, height: int = HEIGHT, seed: int = 0, device: torch.device | None = None
) -> torch.Tensor:
    """uint8 RGB (count, height, height / 2, 3)."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, height, height // 2, 3), dtype=torch.uint8, generator=generator)
    return images.to(device or torch.device("cpu"))


def jpeg(identity: int, *, camera: int = 1) -> bytes:
    """One picture as a file."""
    picture = render_person(seed=1, identity=identity, camera=camera, image=0)
    return cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes()


def load(data: bytes, *, height: int = HEIGHT) -> np.ndarray:
    """uint8 RGB (height, height / 2, 3), decoded and resized as the pipeline does it."""
    return resize(decode(data).pixels, height=height, width=height // 2)


def people(count: int, *, height: int = HEIGHT) -> np.ndarray:
    """uint8 RGB (count, height, height / 2, 3), each of another person."""
    return np.stack([load(jpeg(identity), height=height) for identity in range(count)])


LEAST = {"fp32": 0.9999, "bf16": 0.7}  # of `agreement`, by the precision of the way that is checked


def agreement(expected_ND: np.ndarray, found_ND: np.ndarray) -> float:
    """The lowest cosine between an image's two features, each less the mean over the images.

    Untrained networks give all images nearly the same feature; the differences between images must agree.
    """
    x, y = (f - f.mean(axis=0) for f in np.array([expected_ND, found_ND], np.float64))
    return float(((x * y).sum(axis=1) / np.linalg.norm(x, axis=1) / np.linalg.norm(y, axis=1)).min())


def check(name: str, precision: str, expected_ND: np.ndarray, found_ND: np.ndarray) -> float:
    """The agreement; AssertionError where it is too low."""
    value = agreement(expected_ND, found_ND)
    if not value >= LEAST[precision]:
        raise AssertionError(f"{name}: features agree to {value:.5f} only, {LEAST[precision]} is asked for")
    return value


INFRARED = True  # the stream that is measured; the other one is as large


@dataclass(frozen=True)
class Embedder:
    """A way from uint8 RGB images (N, H, W, 3) to BNNeck features (N, 2048)."""

    name: str
    precision: str  # of the convolutions
    embed: Callable[[np.ndarray], np.ndarray] | None  # None where it cannot run here
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
    """A function that computes BNNeck features of images (N, H, W, 3) by the textbook with our weights."""
    model = preset(WHOLE)["model"]
    textbook = TextbookNetwork(IDENTITIES, inner=model["non_local_inner"], p=model["gem_p"]).to(device).eval()
    copy_weights(trained_like_network(images, device=device), textbook)
    floats = normalised(torch.from_numpy(images)).to(device)

    def embed() -> np.ndarray:
        with torch.no_grad():
            return textbook.embed(floats, infrared=INFRARED)[1].cpu().numpy()

    return embed


def our_embedders(network: MSCLNet, *, device: torch.device, height: int = HEIGHT) -> Iterator[Embedder]:
    """Every back end in every precision; those that cannot run here with the reason."""
    size = {"height": height, "width": height // 2, "device": device}
    for backend, precision in product(BACKENDS, ("fp32", "bf16")):
        name, embed, reason = f"ours, {backend}, {precision}", None, ""
        if precision == "bf16" and not native_bf16(device):
            reason = NO_BF16
        elif backend == "openvino" and device.type != "cpu":
            reason = "not measured: runs on the CPU alone"
        else:
            try:
                embedder = build_embedder(network, backend=backend, precision=precision, **size)
                embed = partial(_bnneck, embedder)
            except UserError as error:
                missing = isinstance(error.__cause__, ImportError)
                reason = "not installed" if missing else f"not measured: {error}"
        yield Embedder(name, precision, embed, reason)


def _bnneck(embedder: Callable[..., Any], images: np.ndarray) -> np.ndarray:
    return embedder(images, infrared=INFRARED)[1]


RATE = 1e-3
IMAGES_PER_IDENTITY = 4  # of each modality

TimedStep = Callable[..., object]


def our_step(
    parameters: dict[str, Any],
    *,
    images: int,
    height: int = HEIGHT,
    precision: str,
    channels_last: bool = True,
    device: torch.device,
    compiled: bool = False,
    recorded: bool = True,
) -> TimedStep:
    """A step as msclnet.training.loop takes it: `step()` on prepared images, or `step(batch)`.

    `images`: of both modalities together, `height` x `height` / 2; `channels_last`: the order of weights and maps in
    memory; `recorded`: whether a GPU runs it from a CUDA graph.
    """
    network = build(parameters).to(device).train()
    if channels_last:
        network = network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    optimizer = build_optimizer(network, parameters["train"]["optimizer"], pretrained=network.backbone)
    set_rate(optimizer, RATE)
    objective = Objective(parameters["loss"], parameters["synergy"])
    if compiled:
        compile_backbone(network)
    plain = Step(network, objective, optimizer, precision=precision, device=device)
    take = GraphedStep(plain) if recorded and device.type == "cuda" else plain
    ready = random_batch(images // 2, height, device)
    return lambda batch=ready: take(batch)


def random_batch(pairs: int, height: int, device: torch.device) -> PairBatch:
    """Images that are on the device, and labels where a loader leaves them."""
    visible, infrared = (random_images(pairs, height=height, seed=seed, device=device) for seed in (0, 1))
    cameras = torch.arange(pairs) % 2
    labels = (identities_of(pairs, torch.device("cpu")), cameras + 1, cameras + 3)
    if device.type == "cuda":
        labels = tuple(tensor.pin_memory() for tensor in labels)
    return PairBatch(visible, infrared, *labels)


def textbook_step(parameters: dict[str, Any], *, images: int, height: int, device: torch.device) -> TimedStep:
    """A step of the baseline in float32, contiguous, on prepared floating-point images; arguments as of `our_step`."""
    torch.manual_seed(0)
    model, settings = parameters["model"], parameters["train"]["optimizer"]
    network = TextbookNetwork(IDENTITIES, inner=model["non_local_inner"], p=model["gem_p"]).to(device).train()
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    kept = {name: settings[name] for name in ("momentum", "nesterov", "weight_decay")}
    optimizer = torch.optim.SGD(trained, lr=RATE, **kept)
    pairs = images // 2
    visible, infrared = (
        normalised(random_images(pairs, height=height, seed=seed)).to(device) for seed in (0, 1)
    )
    identities = identities_of(pairs, device).repeat(2)

    def step() -> None:
        pooled, logits = network(visible, infrared)
        loss = baseline_loss(pooled, logits, identities)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def identities_of(pairs: int, device: torch.device) -> torch.Tensor:
    """Four pairs of each identity."""
    return torch.arange(pairs, device=device) // IMAGES_PER_IDENTITY

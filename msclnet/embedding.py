"""Loads a trained network and embeds images with it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from msclnet.errors import UserError
from msclnet.models.build import build_network
from msclnet.models.network import MSCLNet
from msclnet.progress import progress_bar

Embedder = Callable[[np.ndarray, np.ndarray], np.ndarray]


def load_network(weights: Path, spec: Mapping[str, Any], *, device: torch.device | None = None) -> MSCLNet:
    """Build the network of `spec` and fill it.

    Args:
        weights: .safetensors file as the training writes it.
        spec: What msclnet.models.build_network takes.
        device: The CPU if None.

    Raises:
        UserError: The file is missing, damaged, or holds the weights of another network.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    network = build_network(spec, pretrained=False)
    try:
        state = load_file(weights)
        network.load_state_dict(state)
        for name, value in network.state_dict().items():
            if not torch.equal(value, state[name]):
                raise RuntimeError(f"{name} is shared here, but not there")
    except FileNotFoundError as error:
        raise UserError(f"{weights}: no such file; run `dvc repro train`") from error
    except SafetensorError as error:
        raise UserError(f"{weights} is damaged ({error}); run `dvc repro train --force`") from error
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise UserError(
            f"{weights} holds the weights of another configuration than the one next to it ({first}); "
            "run `dvc repro train`, or `dvc checkout` to bring back files that belong together"
        ) from error
    network = network.to(device or torch.device("cpu")).eval()
    return network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def load_embedder(weights: Path, spec: Mapping[str, Any], *, batch: int = 64) -> Embedder:
    """A function (uint8 RGB (N, H, W, 3), bool (N,) infrared) -> float32 (N, D) BNNeck features, unnormalised.

    Arguments and errors as of `load_network`; `batch` is the number of images at a time.
    """
    network = load_network(weights, spec)

    def embed(images: np.ndarray, infrared: np.ndarray) -> np.ndarray:
        if not len(images):
            return np.empty((0, network.backbone.channels), dtype=np.float32)
        return embed_images(network, images, np.asarray(infrared, dtype=bool), batch=batch)[1]

    return embed


class StreamEmbedder(Protocol):
    """What computes the features of images of one modality."""

    def __call__(self, images: np.ndarray, *, infrared: bool) -> tuple[np.ndarray, np.ndarray]:
        """uint8 RGB (N, H, W, 3) -> pooled and BNNeck features (N, D), float32, unnormalised."""
        ...


def torch_embedder(
    network: MSCLNet, *, precision: str = "fp32", device: torch.device | None = None
) -> StreamEmbedder:
    """The network itself, in eval mode; `precision` is that of the convolutions, `fp32` or `bf16`."""
    device = device or torch.device("cpu")

    def embed(images: np.ndarray, *, infrared: bool) -> tuple[np.ndarray, np.ndarray]:
        with (
            torch.inference_mode(),
            torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16"),
        ):
            pooled, bnneck = network.embed(torch.from_numpy(images).to(device), infrared=infrared)
        return pooled.float().cpu().numpy(), bnneck.float().cpu().numpy()

    return embed


def embed_images(
    network: MSCLNet,
    images: np.ndarray,
    infrared: np.ndarray,
    *,
    batch: int,
    precision: str = "fp32",
    flip: bool = False,
    device: torch.device | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Features at test time by the network itself; see `embed_streams`.

    Args:
        network: Put into eval mode for the call.
        images, infrared, batch, flip: As for `embed_streams`.
        precision, device: As for `torch_embedder`.

    Returns:
        Pooled features (N, D) and BNNeck features (N, D), float32, unnormalised.
    """
    was_training = network.training
    try:
        embed = torch_embedder(network.eval(), precision=precision, device=device)
        return embed_streams(embed, images, infrared, batch=batch, flip=flip)
    finally:
        network.train(was_training)


def embed_streams(
    embed: StreamEmbedder,
    images: np.ndarray,
    infrared: np.ndarray,
    *,
    batch: int,
    flip: bool = False,
    progress: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Features at test time: theta_v for visible and theta_r for infrared images, never both for one.

    Args:
        embed: What computes them.
        images: uint8 RGB (N, H, W, 3), an array or a memory map.
        infrared: bool (N,): which stream each image takes.
        batch: Images at a time.
        flip: Whether a feature is the mean of those of the image and of its left-right mirror image. This
            takes twice as long and changes results, so a report of such features must say so.
        progress: Whether to draw a progress bar.

    Returns:
        Pooled features (N, D) and BNNeck features (N, D), float32, unnormalised.
    """
    pooled = bnneck = np.empty((0, 0), dtype=np.float32)
    with progress_bar(total=len(images), desc="embed", unit="image", disable=not progress) as bar:
        for stream in (False, True):
            rows_of_stream = np.flatnonzero(infrared == stream)
            for start in range(0, len(rows_of_stream), batch):
                rows = rows_of_stream[start : start + batch]
                part = images[rows]
                features = embed(part, infrared=stream)
                if flip:
                    mirrored = embed(np.ascontiguousarray(part[:, :, ::-1]), infrared=stream)
                    features = tuple((one + other) / 2 for one, other in zip(features, mirrored, strict=True))
                if not pooled.size:
                    width = features[0].shape[1]
                    pooled, bnneck = (np.empty((len(images), width), dtype=np.float32) for _ in range(2))
                pooled[rows], bnneck[rows] = features
                bar.update(len(rows))
    return pooled, bnneck

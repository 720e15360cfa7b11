"""A trained network as a plain function from images to embeddings."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from msclnet.embedding import embed_images
from msclnet.errors import UserError
from msclnet.models.build import build_network
from msclnet.models.network import MSCLNet

Embedder = Callable[[np.ndarray, np.ndarray], np.ndarray]


def load_network(weights: Path, spec: Mapping[str, Any], *, device: torch.device | None = None) -> MSCLNet:
    """Build the network of `spec` and fill it.

    Args:
        weights: .safetensors file as the training writes it.
        spec: What msclnet.models.build.build_network takes.
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
            f"{weights} holds the weights of another configuration than the one beside it ({first}); "
            "run `dvc repro train`, or `dvc checkout` to bring back files that belong together"
        ) from error
    network = network.to(device or torch.device("cpu")).eval()
    return network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def load_embedder(weights: Path, spec: Mapping[str, Any], *, batch: int = 64) -> Embedder:
    """A function (uint8 RGB (N, H, W, 3), bool (N,) infrared) -> float32 (N, D) BNNeck features, unnormalised.

    Args:
        weights: .safetensors file as the training writes it.
        spec: What msclnet.models.build.build_network takes.
        batch: Images at a time.

    Raises:
        UserError: The weights cannot be read or do not fit.
    """
    network = load_network(weights, spec)

    def embed(images: np.ndarray, infrared: np.ndarray) -> np.ndarray:
        return embed_images(network, images, np.asarray(infrared, dtype=bool), batch=batch)[1]

    return embed

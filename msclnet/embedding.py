"""From images to embeddings: every image once, by its own modality's stream."""

import numpy as np
import torch
from torch import Tensor

from msclnet.models.network import MSCLNet
from msclnet.progress import progress_bar


def embed_images(
    network: MSCLNet,
    images: np.ndarray,
    infrared: np.ndarray,
    *,
    batch: int,
    precision: str = "fp32",
    flip: bool = False,
    device: torch.device | None = None,
    progress: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """Features at test time: theta_v for visible and theta_r for infrared images, never both for one.

    Args:
        network: Put into eval mode for the call.
        images: uint8 RGB (N, H, W, 3), an array or a memory map.
        infrared: bool (N,): which stream each image takes.
        batch: Images at a time.
        precision: `fp32` or `bf16` (convolutions only).
        flip: Whether a feature is the mean of those of the image and of its left-right mirror image. This
            takes twice as long and changes results, so a report of such features must say so.
        device: Where the network is; the CPU if None.
        progress: Whether to draw a progress bar.

    Returns:
        Pooled features (N, D) and BNNeck features (N, D), float32, unnormalised.
    """
    device = device or torch.device("cpu")
    pooled = bnneck = np.empty((0, 0), dtype=np.float32)
    was_training = network.training
    network.eval()
    try:
        with (
            torch.inference_mode(),
            torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16"),
            progress_bar(total=len(images), desc="embed", unit="image", disable=not progress) as bar,
        ):
            for stream in (False, True):
                rows_of_stream = np.flatnonzero(infrared == stream)
                for start in range(0, len(rows_of_stream), batch):
                    rows = rows_of_stream[start : start + batch]
                    part = torch.from_numpy(images[rows]).to(device)
                    features = _features(network, part, infrared=stream, flip=flip)
                    if not pooled.size:
                        width = features[0].shape[1]
                        pooled, bnneck = (np.empty((len(images), width), dtype=np.float32) for _ in range(2))
                    pooled[rows], bnneck[rows] = (feature.float().cpu().numpy() for feature in features)
                    bar.update(len(rows))
    finally:
        network.train(was_training)
    return pooled, bnneck


def _features(network: MSCLNet, images: Tensor, *, infrared: bool, flip: bool) -> tuple[Tensor, Tensor]:
    pooled, bnneck = network.embed(images, infrared=infrared)
    if flip:
        mirrored_pooled, mirrored_bnneck = network.embed(images.flip(2), infrared=infrared)
        pooled, bnneck = (pooled + mirrored_pooled) / 2, (bnneck + mirrored_bnneck) / 2
    return pooled, bnneck

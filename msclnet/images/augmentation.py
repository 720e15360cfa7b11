"""Training-time augmentation with albumentations, on uint8 images."""

import math
from collections.abc import Mapping
from typing import Any

import albumentations as A
import cv2
import numpy as np

# ImageNet's mean colour: erased pixels are 0 after normalisation.
FILL = (124, 116, 104)


class RandomErasing(A.ImageOnlyTransform):
    """Fill one random rectangle, whose share of the image is uniform between two bounds.

    The usual way draws area and aspect ratio and starts again where the rectangle does not fit, which thins out large
    areas (Zhong et al., Random Erasing Data Augmentation, AAAI 2020, algorithm 1). Here the aspect ratio (height /
    width) is drawn among those that fit, so that a parameter of 20 to 80 % really spreads over 20 to 80 %.
    """

    def __init__(self, *, area: tuple[float, float], ratio: tuple[float, float], p: float) -> None:
        super().__init__(p=p)
        self.area = area
        self.ratio = ratio

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        height, width = params["shape"][:2]
        pixels = self.py_random.uniform(*self.area) * height * width
        # A rectangle of that area fits if its height lies in [pixels / width, height].
        fits = (pixels / width, float(height))
        low = min(max(math.sqrt(pixels * self.ratio[0]), fits[0]), fits[1])
        high = max(min(math.sqrt(pixels * self.ratio[1]), fits[1]), fits[0])
        tall = math.exp(self.py_random.uniform(math.log(low), math.log(max(low, high)))) if pixels else 0.0
        h = min(height, max(0, round(tall)))
        w = min(width, round(pixels / h)) if h else 0
        top, left = self.py_random.randint(0, height - h), self.py_random.randint(0, width - w)
        return {"box": (top, left, h, w)}

    def apply(self, img: np.ndarray, box: tuple[int, int, int, int], **_: Any) -> np.ndarray:
        top, left, h, w = box
        erased = img.copy()
        # A whole row of pixels at a time: three values alone are too short a loop.
        erased[top : top + h, left : left + w] = np.full((w, 3), FILL, dtype=img.dtype)
        return erased


class ChannelExchange(A.ImageOnlyTransform):
    """Replace all three channels by one of them, drawn with equal chances.

    Colour does not predict how a garment reflects infrared light; a network that sees one channel cannot rely on it.
    Infrared images, whose channels are equal, stay as they are.

    Source: Ye et al., Channel Augmented Joint Learning for Visible-Infrared Recognition, ICCV 2021.
    """

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        return {"channel": self.py_random.randrange(3)}

    def apply(self, img: np.ndarray, channel: int, **_: Any) -> np.ndarray:
        # A sixth of np.repeat's time.
        return cv2.cvtColor(cv2.extractChannel(img, channel), cv2.COLOR_GRAY2RGB)


def build_augmentation(augment: Mapping[str, Any], *, height: int, width: int) -> A.Compose:
    """Zero padding and random crop back to the size, horizontal flip, channel exchange, random erasing.

    `augment` is the section of params.yaml. Use `transform(image=uint8 RGB (H, W, 3))["image"]`, seeded by
    `seed_steps`.
    """
    return A.Compose(
        [step for steps in augmentation_steps(augment, height=height, width=width).values() for step in steps]
    )


def augmentation_steps(
    augment: Mapping[str, Any], *, height: int, width: int, always: bool = False
) -> dict[str, list[A.BasicTransform]]:
    """The steps of `build_augmentation` by name: `cropped`, `flipped`, `exchanged`, `erased`; empty where off.

    `always`: with probability 1, to show what they do.
    """
    padding, erasing = augment["padding"], augment["erasing"]
    crop: list[A.BasicTransform] = []
    if padding:
        crop = [A.Pad(padding=padding, fill=0), A.RandomCrop(height=height, width=width)]
    exchange: list[A.BasicTransform] = []
    if augment["channel_exchange"]:
        exchange = [ChannelExchange(p=1.0 if always else augment["channel_exchange"])]
    return {
        "cropped": crop,
        "flipped": [A.HorizontalFlip(p=1.0 if always else augment["flip"])],
        "exchanged": exchange,
        "erased": [
            RandomErasing(
                area=tuple(erasing["area"]),
                ratio=tuple(erasing["ratio"]),
                p=1.0 if always else erasing["probability"],
            )
        ],
    }


def seed_steps(augmentation: A.Compose, seed: int) -> None:
    """Seed each step by its own stream; `set_random_seed` gives all of them the same numbers."""
    augmentation.set_random_seed(seed)
    seeds = np.random.SeedSequence(seed).generate_state(len(augmentation.transforms))
    for step, own in zip(augmentation.transforms, seeds, strict=True):
        step.set_random_seed(int(own))


def skip_image(augmentation: A.Compose, shape: tuple[int, ...]) -> None:
    """Draw the numbers that augmenting an image (H, W, 3) would draw, and do nothing with them."""
    for step in augmentation.transforms:
        assert isinstance(step, A.BasicTransform)
        if step.should_apply():
            step.get_params_dependent_on_data(step.get_params() | {"shape": shape}, {})

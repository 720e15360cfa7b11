"""Sample data for the figures: simple people in two modalities, features of a model, a training history."""

from dataclasses import dataclass

import numpy as np
import pytest
from matplotlib.figure import Figure


def person(identity: int, camera: int, *, infrared: bool, height: int = 288, width: int = 144) -> np.ndarray:
    """A standing figure on a noisy ground; clothes by identity, ground and stance by camera. uint8 (H, W, 3)."""
    generator = np.random.default_rng([identity, camera, int(infrared)])
    clothes = np.random.default_rng(identity).integers(30, 230, (2, 3))
    rows, columns = np.mgrid[:height, :width] / np.array([height, width]).reshape(2, 1, 1)
    image = np.full((height, width, 3), 70 + 17 * camera, float) - 40 * rows[..., None]
    centre = 0.5 + 0.05 * generator.standard_normal()
    head = ((rows - 0.13) / 0.07) ** 2 + ((columns - centre) / 0.11) ** 2 < 1
    body = (rows > 0.2) & (rows < 0.55) & (abs(columns - centre) < 0.2)
    legs = (rows >= 0.55) & (rows < 0.95) & (abs(abs(columns - centre) - 0.09) < 0.07)
    image[head], image[body], image[legs] = (205, 165, 140), clothes[0], clothes[1]
    image += generator.normal(0, 8, image.shape)
    if infrared:
        image = np.repeat(image.mean(axis=2, keepdims=True) * 0.8, 3, axis=2)
    return np.clip(image, 0, 255).astype(np.uint8)


@dataclass(frozen=True)
class Features:
    features: np.ndarray
    identities: np.ndarray
    infrared: np.ndarray


def features(
    identities: int, images: int, *, channels: int = 64, shift: float = 1.0, seed: int = 0
) -> Features:
    """Clusters by identity, moved apart by modality; `images` of each identity and modality."""
    generator = np.random.default_rng(seed)
    identities_N = np.repeat(np.arange(identities), 2 * images) * 7 + 3
    infrared_N = np.tile(np.repeat([False, True], images), identities)
    centres = generator.normal(size=(identities, channels))
    moved = generator.normal(size=channels) * shift
    features_ND = centres[(identities_N - 3) // 7] + infrared_N[:, None] * moved
    features_ND = features_ND + generator.normal(scale=0.8, size=features_ND.shape)
    return Features(features_ND.astype(np.float32), identities_N, infrared_N)


def history(epochs: int = 40) -> dict[str, list[float]]:
    """Eleven loss terms, one of which starts late, sparse validation and gradients, and a stepped rate."""
    generator = np.random.default_rng(1)
    epoch = np.arange(1, epochs + 1)
    names = [
        "identity",
        "triplet",
        "div",
        "t",
        "local",
        "global",
        "sub",
        "intra",
        "inter",
        "synergy",
        "other",
    ]
    columns = {"epoch": epoch.astype(float), "learning_rate": np.where(epoch < epochs / 2, 0.05, 0.005)}
    for place, name in enumerate(names):
        size = 10.0 ** generator.uniform(-2, 1)
        columns[f"loss_{name}"] = size * (np.exp(-epoch / 9) + 0.2 + 0.02 * generator.normal(size=epochs))
        columns[f"gradient_{name}"] = np.where(epoch % 5 == 0, size * np.exp(-epoch / (5 + place)), np.nan)
    columns["loss_local"][: epochs // 3] = np.nan
    for name, best in (("rank1", 0.4), ("mAP", 0.35), ("mINP", 0.2)):
        columns[f"val_{name}"] = np.where(epoch % 4 == 0, best * (1 - np.exp(-epoch / 12)), np.nan)
    return {name: values.tolist() for name, values in columns.items()}


def legible(figure: Figure) -> None:
    """No text is cut off at the figure's edge, and no title, label or note overlaps another; at 60 dpi, for speed."""
    figure.set_dpi(60)
    figure.draw_without_rendering()
    # Half a point of slack: the outline of a frame on the edge of the canvas counts as inside.
    written = figure.get_tightbbox()
    width, height = figure.get_size_inches()
    assert written.x0 > -0.01
    assert written.y0 > -0.01
    assert written.x1 < width + 0.01
    assert written.y1 < height + 0.01

    texts = [text for text in figure.texts if text.get_text()]
    for axes in figure.axes:
        if axes.get_visible():
            titles = [axes.title, axes._left_title, axes.xaxis.label, axes.yaxis.label, *axes.texts]  # type: ignore[attr-defined]
            texts += [text for text in titles if text.get_text()]
            legend = axes.get_legend()
            texts += legend.get_texts() if legend else []
            texts += [
                label for label in axes.get_xticklabels() if _inside(label.get_position()[0], axes.get_xlim())
            ]
    boxes = [text.get_window_extent().padded(-0.5) for text in texts]  # text is placed in whole pixels
    for index, box in enumerate(boxes):
        for other in range(index):
            assert not box.overlaps(boxes[other]), (texts[index].get_text(), texts[other].get_text())


def _inside(value: float, limits: tuple[float, float]) -> bool:
    return min(limits) <= value <= max(limits)


@pytest.fixture(name="person")
def person_fixture():
    return person


@pytest.fixture
def make_features():
    return features


@pytest.fixture
def make_history():
    return history


@pytest.fixture
def assert_legible():
    return legible

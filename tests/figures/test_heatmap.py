"""Heatmaps against a closed form, finite differences, and simple pictures."""

import numpy as np
import pytest
import torch
from torch import nn

from msclnet.figures.heatmap import COLOUR_MAP, cam, heatmap_figure, overlay


def maps(images: int = 5, channels: int = 6, height: int = 4, width: int = 3) -> torch.Tensor:
    return torch.randn(images, channels, height, width, generator=torch.Generator().manual_seed(0)).double()


def test_linear_head_matches_the_closed_form():
    maps_NCHW = maps()
    weights_C = torch.linspace(-1, 1.5, 6).double()
    heat_Nhw = cam(maps_NCHW, lambda m: m.mean((2, 3)) @ weights_C)
    for image in range(5):
        raw = np.zeros((4, 3))
        for channel in range(6):
            raw += float(weights_C[channel]) * maps_NCHW[image, channel].numpy()
        expected = np.maximum(raw, 0) / raw.max()
        np.testing.assert_allclose(heat_Nhw[image].numpy(), expected, atol=1e-6)


def test_curved_head_matches_finite_differences():
    """Shifting a whole channel by e changes the score by e times the sum of its gradient over the places."""
    maps_NCHW = maps().abs() + 0.1
    target_C = torch.linspace(0.2, 2, 6).double()

    def scorer(m: torch.Tensor) -> torch.Tensor:
        return torch.cosine_similarity(m.pow(3).mean((2, 3)).pow(1 / 3), target_C[None], dim=1)

    heat_Nhw, step = cam(maps_NCHW, scorer), 1e-5
    raw_Nhw = torch.zeros(5, 4, 3).double()
    for channel in range(6):
        shift = torch.zeros(1, 6, 1, 1).double()
        shift[0, channel] = step
        weight_N = (scorer(maps_NCHW + shift) - scorer(maps_NCHW - shift)) / (2 * step)
        raw_Nhw += weight_N[:, None, None] * maps_NCHW[:, channel]
    expected = raw_Nhw.clamp_min(0) / raw_Nhw.amax((1, 2), keepdim=True)
    np.testing.assert_allclose(heat_Nhw.numpy(), expected.numpy(), atol=1e-5)


def test_heat_fills_the_unit_range_and_images_do_not_touch_each_other():
    maps_NCHW = maps().float() * torch.tensor([1e-20, 1e-3, 1, 1e3, 1e6]).reshape(5, 1, 1, 1)
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 1)).requires_grad_()
    heat_Nhw = cam(maps_NCHW, lambda m: head(m)[:, 0])
    assert heat_Nhw.dtype == torch.float32
    assert heat_Nhw.min() == 0
    assert heat_Nhw.amax((1, 2)).tolist() == [1.0] * 5
    for image in range(5):
        alone = cam(maps_NCHW[image : image + 1], lambda m: head(m)[:, 0])
        np.testing.assert_allclose(alone[0].numpy(), heat_Nhw[image].numpy(), rtol=1e-4, atol=1e-6)


def test_nothing_else_is_touched_and_inference_mode_does_not_matter():
    head = nn.Linear(6, 1)
    maps_NCHW = maps().float()
    before = maps_NCHW.clone()
    expected = cam(maps_NCHW, lambda m: head(m.mean((2, 3)))[:, 0])
    with torch.inference_mode():
        inside = cam(maps_NCHW * 1, lambda m: head(m.mean((2, 3)))[:, 0])
    assert torch.equal(expected, inside)
    assert torch.equal(maps_NCHW, before)
    assert not maps_NCHW.requires_grad
    assert head.weight.grad is None


def test_image_without_support_stays_all_zero():
    maps_NCHW = torch.ones(2, 3, 4, 4)
    maps_NCHW[1] = -1
    heat_Nhw = cam(maps_NCHW, lambda m: m.sum((1, 2, 3)))
    assert heat_Nhw[0].min() == 1
    assert heat_Nhw[1].abs().max() == 0
    assert cam(torch.zeros(2, 3, 4, 4), lambda m: m.sum((1, 2, 3))).abs().max() == 0


def test_a_value_that_is_not_finite_is_refused():
    with pytest.raises(ValueError, match="not finite"):
        cam(torch.full((2, 3, 4, 4), torch.nan), lambda m: m.sum((1, 2, 3)))


def test_overlay_mixes_by_heat(person):
    image = person(3, 1, infrared=False)
    assert np.array_equal(overlay(image, np.zeros((18, 9))), image)
    *colour, opacity = COLOUR_MAP(1.0)
    expected = (1 - opacity) * image + opacity * 255 * np.array(colour)
    assert np.abs(overlay(image, np.ones((18, 9))) - expected).max() <= 0.51
    upper = np.zeros((4, 2))
    upper[0] = 1
    changed = (overlay(image, upper) != image).any(axis=(1, 2))
    assert changed[: 288 // 4].all()
    assert not changed[288 // 2 :].any()


def sample(person, people: int):
    visible = np.stack([person(i, 1, infrared=False) for i in range(people)])
    infrared = np.stack([person(i, 3, infrared=True) for i in range(people)])
    heat = np.random.default_rng(0).random((2, people, 18, 9))
    return visible, heat[0], infrared, heat[1]


@pytest.mark.parametrize("people", [1, 6])
def test_figure_has_four_images_per_person_and_a_bar(person, assert_legible, people):
    visible, heat_v, infrared, heat_r = sample(person, people)
    figure = heatmap_figure(visible, heat_v, infrared, heat_r, range(100, 100 + people))
    panels = [axes for axes in figure.axes if axes.images]
    assert len(panels) == 4 * people
    assert len(figure.axes) == 4 * people + 1
    assert [axes.get_title() for axes in panels[:people]] == [f"identity {100 + i}" for i in range(people)]
    last = people - 1
    shown = [np.asarray(panels[row * people + last].images[0].get_array()) for row in range(4)]
    assert np.array_equal(shown[0], visible[last])
    assert np.array_equal(shown[1], overlay(visible[last], heat_v[last]))
    assert np.array_equal(shown[2], infrared[last])
    assert np.array_equal(shown[3], overlay(infrared[last], heat_r[last]))
    assert_legible(figure)

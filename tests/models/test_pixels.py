"""Normalisation and reduction of uint8 images against torchvision and average pooling."""

import pytest
import torch
import torch.nn.functional as F
from model_specs import network_of, random_images, spec
from torchvision.transforms import functional as transforms

from msclnet.models.backbone import Pixels


def by_torchvision(images: torch.Tensor) -> torch.Tensor:
    """uint8 (N, H, W, 3) -> float (N, 3, H, W)."""
    return torch.stack(
        [
            transforms.normalize(
                transforms.to_tensor(image), mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225]
            )
            for image in images.numpy()
        ]
    )


@pytest.mark.parametrize("size", [(7, 5), (1, 1), (288, 144)])
def test_images_are_normalised_as_torchvision_does_it(size):
    images = random_images(3, *size)
    prepared = Pixels()(images)
    torch.testing.assert_close(prepared, by_torchvision(images), atol=1e-5, rtol=1e-5)
    assert prepared.dtype == torch.float32
    assert prepared.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("reduction", [2, 3, 5])
@pytest.mark.parametrize("size", [(30, 30), (31, 17), (288, 144)])
def test_reduction_is_the_mean_over_squares_of_the_normalised_image(reduction, size):
    images = random_images(2, *size)
    expected = F.avg_pool2d(by_torchvision(images), reduction)
    prepared = Pixels(reduction=reduction)(images)
    torch.testing.assert_close(prepared, expected, atol=1e-5, rtol=1e-5)
    assert prepared.is_contiguous(memory_format=torch.channels_last)


def test_the_largest_reduction_of_white_does_not_overflow():
    white = torch.full((1, 22, 22, 3), 255, dtype=torch.uint8)
    torch.testing.assert_close(Pixels(reduction=11)(white), F.avg_pool2d(by_torchvision(white), 11))
    with pytest.raises(ValueError, match="12"):
        Pixels(reduction=12)


def test_mirrored_views_are_as_good_as_copies():
    images = random_images(2, 12, 9)
    mirrored = Pixels(reduction=3)(images.flip(2))
    torch.testing.assert_close(mirrored, Pixels(reduction=3)(images).flip(3), atol=1e-5, rtol=1e-5)


def test_the_slim_network_reduces_and_the_resnets_do_not():
    assert network_of(spec(backbone="slim")).pixels.reduction == 3
    assert network_of(spec(backbone="slim", reduction=2)).pixels.reduction == 2
    assert network_of(spec(backbone="resnet18")).pixels.reduction == 1
    saved_before = spec(backbone="slim")
    del saved_before["model"]["reduction"]
    assert network_of(saved_before).pixels.reduction == 3

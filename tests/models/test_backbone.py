"""The two-stream backbone: torchvision's networks, the slim one counted by hand, the places of the non-local blocks."""

from typing import Any

import pytest
import torch
import torchvision
from model_specs import network_of, random_images, randomise_statistics, spec
from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.transforms import functional as transforms

from msclnet.models.backbone import TwoStreamBackbone
from msclnet.models.build import build_network
from msclnet.models.non_local import NonLocalBlock


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def blocks(backbone: TwoStreamBackbone, layer: int) -> list[nn.Module]:
    trunk = backbone.trunk_visible
    assert isinstance(trunk, nn.Sequential)
    return list(trunk[layer - 1])  # type: ignore[call-overload]


def is_non_local(backbone: TwoStreamBackbone, layer: int) -> list[bool]:
    return [isinstance(block, NonLocalBlock) for block in blocks(backbone, layer)]


@pytest.fixture(scope="module")
def resnet50():
    torch.manual_seed(0)
    settings = spec(backbone="resnet50", non_local_inner=1, synergy={"teacher": "mutual"})
    return build_network(settings).eval()


def test_resnet50_at_the_papers_size_gives_maps_of_18_by_9(resnet50):
    image = random_images(1, 288, 144)
    with torch.no_grad():
        maps = resnet50.maps(image, image[:0])
        assert maps.shape == (1, 2048, 18, 9)
        pooled, normalised = resnet50.head(maps)
    assert pooled.shape == normalised.shape == (1, 2048)


def test_non_local_blocks_follow_the_last_two_blocks_of_layer2_and_the_last_three_of_layer3(resnet50):
    backbone = resnet50.backbone
    assert is_non_local(backbone, 1) == [False] * 3
    assert is_non_local(backbone, 2) == [False, False, False, True, False, True]
    assert is_non_local(backbone, 3) == [False, False, False, False, True, False, True, False, True]
    assert is_non_local(backbone, 4) == [False] * 3
    for layer, channels in ((2, 512), (3, 1024)):
        for block in blocks(backbone, layer):
            if isinstance(block, NonLocalBlock):
                assert block.theta.weight.shape == block.phi.weight.shape == block.g.weight.shape
                assert block.theta.weight.shape == (1, channels, 1, 1)
                assert block.out.weight.shape == (channels, 1, 1, 1)
                assert block.norm.num_features == channels


@pytest.mark.parametrize(("backbone", "inner", "count"), [("resnet18", 7, 4), ("slim", 2, 2), ("slim", 0, 0)])
def test_smaller_networks_have_as_many_non_local_blocks_as_their_layers_allow(backbone, inner, count):
    # resnet18 has two blocks in each layer, slim has one
    network = build_network(spec(backbone=backbone, non_local_inner=inner))
    found = [m for m in network.modules() if isinstance(m, NonLocalBlock)]
    assert len(found) == count
    assert all(block.theta.out_channels == inner for block in found)
    if backbone == "resnet18":
        assert is_non_local(network.backbone, 2) == is_non_local(network.backbone, 3) == [False, True] * 2


def test_fresh_non_local_blocks_change_nothing():
    torch.manual_seed(0)
    with_blocks = build_network(spec(non_local_inner=3)).eval()
    without = build_network(spec(non_local_inner=0)).eval()
    images = random_images(2, 144, 96)
    theirs = [m for m in without.backbone.trunk_visible.modules() if type(m).__name__ == "BasicBlock"]
    ours = [m for m in with_blocks.backbone.trunk_visible.modules() if type(m).__name__ == "BasicBlock"]
    for mine, other in zip(ours, theirs, strict=True):
        other.load_state_dict(mine.state_dict())
    without.backbone.stem_visible.load_state_dict(with_blocks.backbone.stem_visible.state_dict())
    with torch.no_grad():
        assert torch.equal(with_blocks.maps(images, images[:0]), without.maps(images, images[:0]))


@pytest.mark.parametrize(("backbone", "inner"), [("slim", 0), ("slim", 2)])
def test_a_separate_trunk_costs_a_trunk_more(backbone, inner):
    settings: dict[str, Any] = {"backbone": backbone, "non_local_inner": inner}
    shared, separate = (build_network(spec(trunk=trunk, **settings)) for trunk in ("shared", "separate"))
    assert parameters(separate) - parameters(shared) == parameters(shared.backbone.trunk_visible)
    assert shared.backbone.shared
    assert not separate.backbone.shared
    assert shared.backbone.trunk_visible is shared.backbone.trunk_infrared
    two = separate.backbone
    pairs = [(two.trunk_visible, two.trunk_infrared)]
    pairs += [
        (network.backbone.stem_visible, network.backbone.stem_infrared) for network in (shared, separate)
    ]
    for ours, theirs in pairs:
        assert not {id(p) for p in ours.parameters()} & {id(p) for p in theirs.parameters()}


@pytest.mark.parametrize(
    ("height", "width", "last_stride", "expected"),
    [(288, 144, 1, (6, 3)), (288, 144, 2, (3, 2)), (96, 48, 1, (2, 1)), (144, 96, 1, (3, 2))],
)
def test_maps_of_the_slim_network(height, width, last_stride, expected):
    network = build_network(spec(width=16, last_stride=last_stride)).eval()
    images = random_images(2, height, width)
    with torch.no_grad():
        assert network.maps(images, images[:1]).shape == (3, 128, *expected)


def test_parameters_of_the_slim_network_by_hand():
    def block(enter: int, out: int, *, downsample: bool) -> int:
        return 9 * enter * out + 9 * out * out + 4 * out + (enter * out + 2 * out if downsample else 0)

    w = 16
    trunk = block(w, w, downsample=False) + sum(block(c, 2 * c, downsample=True) for c in (w, 2 * w, 4 * w))
    backbone = build_network(spec(width=w)).backbone
    assert parameters(backbone.trunk_visible) == trunk
    assert parameters(backbone.stem_infrared) == 3 * 49 * w + 2 * w
    assert backbone.channels == 8 * w


def test_visible_maps_come_first_and_either_modality_may_be_absent():
    network = network_of(spec()).eval()
    visible, infrared = random_images(2, 144, 96), random_images(3, 144, 96, seed=1)
    with torch.no_grad():
        both = network.maps(visible, infrared)
        torch.testing.assert_close(both[:2], network.maps(visible, infrared[:0]))
        torch.testing.assert_close(both[2:], network.maps(visible[:0], infrared))


@pytest.mark.parametrize(
    ("name", "block", "trunk"), [("resnet18", BasicBlock, "separate"), ("resnet50", Bottleneck, "shared")]
)
def test_both_streams_equal_torchvisions_network(name, block, trunk, folder):
    torch.manual_seed(0)
    reference = getattr(torchvision.models, name)().eval()
    randomise_statistics(reference)
    assert any(isinstance(m, block) for m in reference.modules())
    torch.save(reference.state_dict(), folder / "weights.pth")
    settings: dict[str, Any] = {
        "backbone": name,
        "weights": str(folder / "weights.pth"),
        "last_stride": 2,
        "trunk": trunk,
    }
    network = build_network(spec(non_local_inner=0, synergy={"teacher": "mutual"}, **settings)).eval()
    images = random_images(2, 96, 64)
    x = torch.stack(
        [
            transforms.normalize(transforms.to_tensor(i), [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
            for i in images.numpy()
        ]
    )
    with torch.no_grad():
        x = reference.maxpool(reference.relu(reference.bn1(reference.conv1(x))))
        expected = reference.layer4(reference.layer3(reference.layer2(reference.layer1(x))))
        assert expected.std() > 0.01
        for maps in (network.maps(images, images[:0]), network.maps(images[:0], images)):
            torch.testing.assert_close(maps, expected, atol=1e-4, rtol=1e-3)


def test_the_last_stride_doubles_the_maps_and_keeps_the_weights():
    fine, coarse = (network_of(spec(backbone="resnet18", last_stride=stride)).eval() for stride in (1, 2))
    images = random_images(1, 96, 64)
    with torch.no_grad():
        assert fine.maps(images, images[:0]).shape == (1, 512, 6, 4)
        assert coarse.maps(images, images[:0]).shape == (1, 512, 3, 2)
    ours, theirs = fine.backbone.state_dict(), coarse.backbone.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)

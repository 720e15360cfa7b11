"""Which parameters move, and how far, against the update rule written out."""

import pytest
import torch
from torch import nn

from msclnet.training.optimizer import build_optimizer, set_rate

SETTINGS = {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01, "pretrained_factor": 0.1}


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Linear(3, 2)
        self.head = nn.BatchNorm1d(2)
        self.head.bias.requires_grad_(False)


def small() -> Small:
    torch.manual_seed(0)
    return Small().double()


def test_groups() -> None:
    network = small()
    optimizer = build_optimizer(network, SETTINGS, pretrained=network.backbone)
    by_factor = {group["factor"]: {id(p) for p in group["params"]} for group in optimizer.param_groups}
    assert by_factor == {
        1.0: {id(network.head.weight)},
        0.1: {id(network.backbone.weight), id(network.backbone.bias)},
    }
    assert all(group["momentum"] == 0.9 and group["nesterov"] for group in optimizer.param_groups)


def test_without_pretrained_weights_all_learn_alike() -> None:
    network = small()
    (group,) = build_optimizer(network, SETTINGS, pretrained=None).param_groups
    assert group["factor"] == 1.0
    assert len(group["params"]) == 3


def test_nothing_but_the_pretrained_part() -> None:
    network = small()
    (group,) = build_optimizer(network.backbone, SETTINGS, pretrained=network.backbone).param_groups
    assert group["factor"] == 0.1


def test_each_group_gets_its_share_of_the_rate() -> None:
    network = small()
    optimizer = build_optimizer(network, SETTINGS, pretrained=network.backbone)
    set_rate(optimizer, 0.5)
    assert {group["factor"]: group["lr"] for group in optimizer.param_groups} == {1.0: 0.5, 0.1: 0.05}


@pytest.mark.parametrize("nesterov", [True, False])
def test_updates_follow_the_rule(nesterov: bool) -> None:
    network = small()
    optimizer = build_optimizer(network, {**SETTINGS, "nesterov": nesterov}, pretrained=network.backbone)
    trained = {"backbone.weight": 0.1, "backbone.bias": 0.1, "head.weight": 1.0}
    weights = {name: value.detach().clone() for name, value in network.named_parameters()}
    velocity: dict[str, torch.Tensor] = {}
    frozen = weights["head.bias"].clone()
    for step, rate in enumerate((0.1, 0.5, 0.2)):
        set_rate(optimizer, rate)
        optimizer.zero_grad()
        images = torch.arange(12, dtype=torch.float64).reshape(4, 3).sin() + step
        network.head(network.backbone(images)).pow(3).sum().backward()
        gradients = {name: p.grad for name, p in network.named_parameters()}
        optimizer.step()
        for name, factor in trained.items():
            gradient = gradients[name]
            assert gradient is not None
            decayed = gradient + 0.01 * weights[name]
            velocity[name] = 0.9 * velocity[name] + decayed if name in velocity else decayed
            change = decayed + 0.9 * velocity[name] if nesterov else velocity[name]
            weights[name] = weights[name] - rate * factor * change
    for name, value in network.named_parameters():
        torch.testing.assert_close(value.detach(), weights[name], rtol=1e-12, atol=1e-12)
    assert torch.equal(network.head.bias, frozen)


def test_the_order_of_weights_in_memory_changes_no_update() -> None:
    # The fused update walks through memory: weight, gradient and velocity must lie in the same order.
    networks = []
    for memory_format in (torch.contiguous_format, torch.channels_last):
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(4, 6, 3), nn.Conv2d(6, 1, 1), nn.Conv2d(1, 5, (2, 1))).double()
        network = network.to(memory_format=memory_format)  # pyright: ignore[reportCallIssue]
        optimizer = build_optimizer(network, SETTINGS, pretrained=None)
        for step in range(3):
            set_rate(optimizer, 0.1)
            optimizer.zero_grad()
            images = torch.arange(2 * 4 * 35, dtype=torch.float64).reshape(2, 4, 7, 5).sin() + step
            network(images.contiguous(memory_format=memory_format)).pow(3).sum().backward()
            optimizer.step()
        networks.append(network)
    for ours, expected in zip(networks[1].parameters(), networks[0].parameters(), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-12)

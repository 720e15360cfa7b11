"""The textbook network and ours are two ways of writing one function."""

from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.textbook import TextbookNetwork, baseline_loss, copy_weights, normalised
from msclnet.features import PairLabels
from msclnet.losses.objective import Objective
from msclnet.models.build import build_network
from msclnet.models.network import MSCLNet
from pipelines.stages.presets import load_preset

PRESET = Path(__file__).parents[2] / "presets" / "agw-sysu-mm01.yaml"
IDENTITIES, PAIRS, HEIGHT, WIDTH = 5, 4, 32, 16


@pytest.fixture(scope="module")
def preset() -> dict[str, Any]:
    return load_preset("agw-sysu-mm01", Path(__file__).parents[2])


@pytest.fixture(scope="module")
def networks(preset: dict[str, Any]) -> tuple[MSCLNet, TextbookNetwork]:
    """Both with the same weights, in double precision: what differs then is a defect, not rounding."""
    torch.manual_seed(0)
    spec = {"identities": IDENTITIES, "model": preset["model"], "synergy": preset["synergy"]}
    ours = build_network(spec, pretrained=False).double()
    for module in ours.modules():
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.0)
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    with torch.device("meta"):  # its own random weights would go at once
        model = preset["model"]
        textbook = TextbookNetwork(IDENTITIES, inner=model["non_local_inner"], p=model["gem_p"]).double()
    textbook = textbook.to_empty(device="cpu")
    copy_weights(ours, textbook)
    return ours, textbook


def images(seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (PAIRS, HEIGHT, WIDTH, 3), dtype=torch.uint8, generator=generator)


def labels() -> torch.Tensor:
    return torch.arange(PAIRS) // 2


def test_the_pixels_are_the_same(networks: tuple[MSCLNet, TextbookNetwork]) -> None:
    torch.testing.assert_close(
        networks[0].pixels(images(0)).float(), normalised(images(0)), rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("infrared", [False, True])
def test_the_embedding_is_the_same(networks: tuple[MSCLNet, TextbookNetwork], infrared: bool) -> None:
    ours, textbook = networks[0].eval(), networks[1].eval()
    with torch.no_grad():
        pixels = ours.pixels(images(1)).double()
        nothing = pixels[:0]
        maps = ours.backbone(*((nothing, pixels) if infrared else (pixels, nothing)))
        found = ours.head(maps)
        expected = textbook.embed(pixels, infrared=infrared)
        other = textbook.embed(pixels, infrared=not infrared)
    for mine, theirs, wrong in zip(found, expected, other, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-9)
        assert (theirs - wrong).abs().max() > 1e-3


def test_a_training_step_gives_the_same_loss_and_gradients(
    networks: tuple[MSCLNet, TextbookNetwork], preset: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, textbook = networks[0].train(), networks[1].train()
    pixels = [normalised(images(seed)).double() for seed in (2, 3)]
    cameras = torch.zeros(PAIRS, dtype=torch.int64)
    monkeypatch.setattr(ours, "maps", ours.backbone.forward)  # `maps` itself rounds to float32
    features = ours(pixels[0], pixels[1], with_synergy=False)
    objective = Objective(preset["loss"], preset["synergy"])
    loss = objective(features, PairLabels(labels(), cameras, cameras)).total
    loss.backward()
    pooled, logits = textbook(pixels[0], pixels[1])
    expected = baseline_loss(pooled, logits, labels().repeat(2))
    expected.backward()

    torch.testing.assert_close(loss, expected, rtol=1e-9, atol=1e-9)
    theirs = torch.nn.ModuleDict({"norm": textbook.neck, "classifier": textbook.classifier})
    compared = 0
    for mine, other in (
        (ours.backbone.stem_visible, textbook.stem_visible),
        (ours.backbone.stem_infrared, textbook.stem_infrared),
        (ours.neck, theirs),
    ):
        gradients = {name: parameter.grad for name, parameter in other.named_parameters()}
        for name, parameter in mine.named_parameters():
            if parameter.requires_grad:
                assert gradients[name] is not None
                torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-6, atol=1e-9)
                compared += 1
    assert compared == 2 * 3 + 2

"""The whole network: features by the method's definitions, precision, seeds, and what embedding touches."""

import numpy as np
import pytest
import torch
from model_specs import network_of, random_images, spec
from torch import nn

from msclnet.features import Features
from msclnet.models.build import build_network
from msclnet.models.network import MSCLNet

HEIGHT, WIDTH = 144, 96  # maps of 3 x 2


class Untouchable(nn.Module):
    def forward(self, _: torch.Tensor) -> torch.Tensor:
        raise AssertionError("the other modality's extractor was asked")


@pytest.mark.parametrize("infrared", [False, True])
@pytest.mark.parametrize("trunk", ["shared", "separate"])
def test_embedding_one_modality_never_touches_the_others_extractor_nor_the_branch(trunk, infrared):
    network, images = network_of(spec(trunk=trunk)).eval(), random_images(2, HEIGHT, WIDTH)
    with torch.no_grad():
        expected = network.embed(images, infrared=infrared)
        other = "visible" if infrared else "infrared"
        setattr(network.backbone, f"stem_{other}", Untouchable())
        if trunk == "separate":
            setattr(network.backbone, f"trunk_{other}", Untouchable())
        network.synergy = None
        del network.normalise_visible, network.normalise_infrared
        for ours, before in zip(network.embed(images, infrared=infrared), expected, strict=True):
            assert torch.equal(ours, before)
        with pytest.raises(AssertionError, match="other modality"):
            network.embed(images, infrared=not infrared)


@pytest.mark.parametrize("trunk", ["shared", "separate"])
def test_embed_equals_forward_in_eval_mode(trunk):
    network = network_of(spec(trunk=trunk)).eval()
    visible, infrared = random_images(3, HEIGHT, WIDTH), random_images(3, HEIGHT, WIDTH, seed=1)
    with torch.no_grad():
        features = network(visible, infrared)
        for images, is_infrared, stream in (
            (visible, False, features.visible),
            (infrared, True, features.infrared),
        ):
            pooled, normalised = network.embed(images, infrared=is_infrared)
            torch.testing.assert_close(pooled, stream.pooled)
            torch.testing.assert_close(network.neck.classifier(normalised), stream.logits)
            # the two streams are different functions
            assert not torch.allclose(pooled, network.embed(images, infrared=not is_infrared)[0])


def test_the_bnneck_feature_is_the_normalised_pooled_one():
    network = network_of(spec()).eval()
    with torch.no_grad():
        pooled, normalised = network.embed(random_images(4, HEIGHT, WIDTH), infrared=True)
    norm = network.neck.norm
    assert norm.running_mean is not None
    assert norm.running_var is not None
    mean, variance, weight = (
        x.detach().double().numpy() for x in (norm.running_mean, norm.running_var, norm.weight)
    )
    expected = (pooled.double().numpy() - mean) / np.sqrt(variance + 1e-5) * weight
    np.testing.assert_allclose(normalised.numpy(), expected, atol=1e-5)
    assert pooled.dtype == normalised.dtype == torch.float32


def test_an_images_embedding_does_not_depend_on_its_batch():
    network, images = network_of(spec()).eval(), random_images(5, HEIGHT, WIDTH)
    with torch.no_grad():
        whole = network.embed(images, infrared=False)[1]
        for i in range(5):
            torch.testing.assert_close(network.embed(images[i : i + 1], infrared=False)[1][0], whole[i])


def forward(*, training: bool = False, with_synergy: bool = True, **changes) -> tuple[Features, MSCLNet]:
    network = network_of(spec(parts=3, **changes)).train(training)
    visible, infrared = random_images(4, HEIGHT, WIDTH), random_images(4, HEIGHT, WIDTH, seed=1)
    with torch.no_grad():
        return network(visible, infrared, with_synergy=with_synergy), network


def test_features_follow_from_the_maps_by_the_methods_definitions():
    features, network = forward(synergy={"target": "label"})
    maps = features.maps.double().numpy()
    assert maps.shape == (8, 64, 3, 2)
    for rows, stream, norm in (
        (slice(0, 4), features.visible, network.normalise_visible),
        (slice(4, 8), features.infrared, network.normalise_infrared),
    ):
        assert norm.weight.tolist() == [1.0] * 64
        own = np.maximum(maps[rows], 0)
        pooled = (own**3).mean((2, 3)) ** (1 / 3)
        np.testing.assert_allclose(stream.pooled.numpy(), pooled, rtol=1e-4, atol=1e-4)
        parts = ((own**3).mean(3) ** (1 / 3)).transpose(0, 2, 1)  # three parts of one row each
        np.testing.assert_allclose(stream.parts.numpy(), parts, rtol=1e-4, atol=1e-4)
        mean, variance = maps[rows].mean((2, 3), keepdims=True), maps[rows].var((2, 3), keepdims=True)
        hats = (maps[rows] - mean) / np.sqrt(variance + 1e-5)
        np.testing.assert_allclose(
            stream.normalised_parts.numpy(), hats.mean(3).transpose(0, 2, 1), atol=1e-4
        )
        assert stream.normalised_logits is not None
        assert network.normalised_neck is not None
        rectified = (np.maximum(hats, 0) ** 3).mean((2, 3)) ** (1 / 3)
        logits = network.normalised_neck(torch.tensor(rectified, dtype=torch.float32))[1]
        torch.testing.assert_close(stream.normalised_logits, logits, atol=1e-6, rtol=1e-3)


def test_the_whole_average_of_a_normalised_map_carries_nothing():
    features, network = forward()
    norm = network.normalise_visible
    nn.init.normal_(norm.bias)
    with torch.no_grad():
        means = norm(features.maps[:4]).mean(dim=(2, 3))
    torch.testing.assert_close(means, norm.bias.expand(4, -1), atol=1e-5, rtol=1e-4)
    # by parts it does carry something
    assert features.visible.normalised_parts.std(dim=0).max() > 0.1


@pytest.mark.parametrize(
    ("synergy", "with_synergy", "branch", "head"),
    [
        ({}, True, True, False),
        ({}, False, False, False),
        ({"teacher": "parts_mean"}, True, True, False),
        ({"teacher": "mutual"}, True, False, False),
        ({"teacher": "logits_mean", "target": "label"}, True, False, True),
    ],
)
def test_which_features_there_are(synergy, with_synergy, branch, head):
    features, _ = forward(with_synergy=with_synergy, synergy=synergy)
    assert (features.synergy is not None) is branch
    assert (features.visible.normalised_logits is not None) is head
    assert (features.infrared.normalised_logits is not None) is head


@pytest.mark.parametrize(("trunk", "batches"), [("shared", [6]), ("separate", [3, 3])])
def test_a_shared_trunk_sees_both_modalities_in_one_batch(trunk, batches):
    network = network_of(spec(trunk=trunk)).train()
    seen = []
    for part in {network.backbone.trunk_visible, network.backbone.trunk_infrared}:
        part.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    network(random_images(3, HEIGHT, WIDTH), random_images(3, HEIGHT, WIDTH, seed=1))
    assert seen == batches


@pytest.mark.parametrize(
    ("teacher", "reading"),
    [
        ("mogrifier", "per_part"),
        ("mogrifier", "interleaved"),
        ("mogrifier", "two_chains"),
        ("parts_mean", "per_part"),
    ],
)
def test_low_precision_is_for_the_convolutions_alone(teacher, reading):
    network = network_of(spec(parts=3, synergy={"target": "label", "teacher": teacher, "reading": reading}))
    network.eval()
    visible, infrared = random_images(4, HEIGHT, WIDTH), random_images(4, HEIGHT, WIDTH, seed=1)
    with torch.no_grad():
        full = network(visible, infrared)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            features = network(visible, infrared)
            embedded = network.embed(visible, infrared=False)
    # the convolutions did run in bfloat16: their maps have no more digits than that
    assert torch.equal(features.maps, features.maps.bfloat16().float())
    assert not torch.equal(full.maps, full.maps.bfloat16().float())
    torch.testing.assert_close(features.maps, full.maps, atol=0.1, rtol=0.1)
    # everything after them equals the same heads on the same maps without autocast
    network.maps = lambda *_: features.maps  # type: ignore[method-assign]
    with torch.no_grad():
        expected = network(visible, infrared)
    assert features.synergy is not None
    assert expected.synergy is not None
    for ours, theirs in (
        (features.visible, expected.visible),
        (features.infrared, expected.infrared),
        (features.synergy, expected.synergy),
    ):
        for name, value in vars(theirs).items():
            assert getattr(ours, name).dtype == torch.float32
            assert torch.equal(getattr(ours, name), value), name
    assert all(tensor.dtype == torch.float32 for tensor in embedded)
    torch.testing.assert_close(embedded[0], features.visible.pooled)


def test_the_same_seed_gives_the_same_weights_and_another_one_others():
    def weights(seed: int) -> dict[str, torch.Tensor]:
        torch.manual_seed(seed)
        return build_network(spec(non_local_inner=1)).state_dict()

    first, again, other = weights(3), weights(3), weights(4)
    assert first.keys() == again.keys() == other.keys()
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(
        first["backbone.trunk_visible.0.0.conv1.weight"], other["backbone.trunk_visible.0.0.conv1.weight"]
    )
    assert not torch.equal(first["neck.classifier.weight"], other["neck.classifier.weight"])


def test_the_branch_does_not_change_how_the_extractors_start():
    def extractors(**synergy) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        state = build_network(spec(synergy=synergy)).state_dict()
        return {name: value for name, value in state.items() if name.startswith(("backbone.", "neck."))}

    without = extractors(teacher="mutual")
    for synergy in ({}, {"teacher": "parts_mean"}, {"reading": "two_chains", "rank": 3}, {"target": "label"}):
        assert all(torch.equal(value, without[name]) for name, value in extractors(**synergy).items())


def test_weights_move_to_another_network_of_the_same_settings():
    first, second = network_of(spec()).eval(), network_of(spec(), seed=1).eval()
    assert not [name for name in first.state_dict() if name.startswith("pixels")]  # mean and deviation
    images = random_images(2, HEIGHT, WIDTH)
    second.load_state_dict(first.state_dict())
    with torch.no_grad():
        assert torch.equal(first.embed(images, infrared=True)[1], second.embed(images, infrared=True)[1])

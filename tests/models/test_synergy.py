"""The three readings by a plain numpy LSTM, the residual and the branch by the method's equations."""

from functools import partial

import mogrifier_by_hand
import numpy as np
import pytest
import torch
from torch import nn

from msclnet.features import Stream
from msclnet.models.mogrifier import MogrifierLSTMCell
from msclnet.models.synergy import READINGS, MeanResidual, SynergyBranch

N, PARTS, CHANNELS = 3, 4, 5


def random_cell() -> MogrifierLSTMCell:
    torch.manual_seed(0)
    cell = MogrifierLSTMCell(CHANNELS, CHANNELS, rounds=5).double()
    for parameter in cell.parameters():
        nn.init.normal_(parameter, std=0.7)
    return cell


def random_parts(seed: int) -> torch.Tensor:
    return torch.tensor(np.random.default_rng(seed).standard_normal((N, PARTS, CHANNELS)))


def per_part(step, visible, infrared, h, c):
    """Two steps for each part."""
    return [step(infrared[j], *step(visible[j], h, c))[0] for j in range(PARTS)]


def interleaved(step, visible, infrared, h, c):
    """One sequence, read off after each infrared part."""
    hidden = []
    for j in range(PARTS):
        h, c = step(infrared[j], *step(visible[j], h, c))
        hidden.append(h)
    return hidden


def two_chains(step, visible, infrared, h, c):
    """Two steps from one fused state."""
    hidden = []
    for j in range(PARTS):
        h, c = np.mean([step(visible[j], h, c), step(infrared[j], h, c)], axis=0)
        hidden.append(h)
    return hidden


@pytest.mark.parametrize("by_hand", [per_part, interleaved, two_chains])
def test_readings_equal_steps_by_hand(by_hand):
    cell = random_cell()
    step, zero = partial(mogrifier_by_hand.step, cell), np.zeros(CHANNELS)
    pairs = zip(random_parts(1).numpy(), random_parts(2).numpy(), strict=True)
    expected = [by_hand(step, visible, infrared, zero, zero) for visible, infrared in pairs]
    with torch.no_grad():
        found = READINGS[by_hand.__name__](cell)(random_parts(1), random_parts(2))
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_two_chains_treat_the_modalities_alike_and_the_others_do_not():
    cell = random_cell()
    for name, reading in READINGS.items():
        forwards, backwards = (
            reading(cell)(random_parts(first), random_parts(second)) for first, second in ((1, 2), (2, 1))
        )
        alike = torch.allclose(forwards, backwards)
        assert alike is (name == "two_chains")


def test_parts_in_another_order_give_hidden_states_in_that_order_for_per_part_alone():
    order = [2, 0, 3, 1]
    for name, reading in READINGS.items():
        module = reading(random_cell())
        shuffled = module(random_parts(1)[:, order], random_parts(2)[:, order])
        same = torch.allclose(shuffled, module(random_parts(1), random_parts(2))[:, order])
        assert same is (name == "per_part")


@pytest.mark.parametrize("name", list(READINGS))
@pytest.mark.parametrize("modality", [0, 1])
@pytest.mark.parametrize("part", range(PARTS))
def test_which_parts_a_part_depends_on(name, modality, part):
    module = READINGS[name](random_cell())
    inputs = [random_parts(1), random_parts(2)]
    before = module(*inputs)
    inputs[modality][:, part] += 0.5
    changed = [bool((module(*inputs)[:, j] != before[:, j]).any()) for j in range(PARTS)]
    if name == "per_part":
        assert changed == [j == part for j in range(PARTS)]
    else:
        assert changed == [j >= part for j in range(PARTS)]


@pytest.mark.parametrize("name", list(READINGS))
def test_pairs_do_not_see_each_other(name):
    module = READINGS[name](random_cell())
    whole = module(random_parts(1), random_parts(2))
    for i in range(N):
        alone = module(random_parts(1)[i : i + 1], random_parts(2)[i : i + 1])
        torch.testing.assert_close(alone[0], whole[i])


@pytest.mark.parametrize("name", list(READINGS))
def test_one_set_of_weights_serves_all_parts(name):
    module = READINGS[name](random_cell())
    ours = sum(p.numel() for p in module.parameters())
    assert ours == sum(p.numel() for p in random_cell().parameters())
    assert module(random_parts(1)[:, :1], random_parts(2)[:, :1]).shape == (N, 1, CHANNELS)


def test_the_residual_starts_as_the_rectified_mean():
    residual = MeanResidual(CHANNELS, CHANNELS).double()
    visible, infrared = random_parts(1), random_parts(2)
    expected = np.maximum((visible.numpy() + infrared.numpy()) / 2, 0)
    assert (expected == 0).any()
    np.testing.assert_array_equal(residual(random_parts(3), visible, infrared).detach().numpy(), expected)
    assert residual.project.bias is None


def test_the_residual_adds_the_projected_hidden_state_before_it_rectifies():
    residual = MeanResidual(CHANNELS, CHANNELS).double()
    nn.init.normal_(residual.project.weight)
    visible, infrared, hidden = (random_parts(seed) for seed in (1, 2, 3))
    p = residual.project.weight.detach().numpy()
    result = residual(hidden, visible, infrared).detach().numpy()
    for i in range(N):
        for j in range(PARTS):
            mean = (visible[i, j].numpy() + infrared[i, j].numpy()) / 2
            np.testing.assert_allclose(
                result[i, j], np.maximum(mean + p @ hidden[i, j].numpy(), 0), atol=1e-12
            )


def streams() -> list[Stream]:
    """Both modalities' features, with parts that are not negative, as GeM gives them."""
    return [
        Stream(
            pooled=torch.empty(0),
            logits=torch.empty(0),
            parts=random_parts(seed).abs().requires_grad_(True),
            normalised_parts=random_parts(seed + 1).requires_grad_(True),
            isolated_normalised_parts=torch.empty(0),
            normalised_logits=None,
        )
        for seed in (10, 20)
    ]


def branch(*, lstm: bool = True, residual: str = "mean", detached: bool = True) -> SynergyBranch:
    cell = random_cell() if lstm else None
    made = SynergyBranch(
        channels=CHANNELS,
        identities=7,
        gem_p=3.0,
        cell=cell,
        reading="per_part",
        residual=residual,
        detached=detached,
    ).double()
    if made.residual is not None:
        nn.init.normal_(made.residual.project.weight, std=0.5)
    return made.eval()


def test_the_branch_with_a_residual_follows_the_method():
    module, (visible, infrared) = branch(), streams()
    result = module(visible, infrared)
    assert module.lstm is not None
    assert module.residual is not None
    hidden = module.lstm(visible.normalised_parts, infrared.normalised_parts)
    p = module.residual.project.weight
    parts = ((visible.parts + infrared.parts) / 2 + hidden @ p.T).clamp(min=0)
    torch.testing.assert_close(result.parts, parts)
    pooled = parts.clamp(min=1e-6).pow(3).mean(dim=1).pow(1 / 3)
    torch.testing.assert_close(result.pooled, pooled)
    torch.testing.assert_close(result.logits, module.neck(pooled)[1])
    assert result.logits.shape == (N, 7)


def test_the_branch_without_a_residual_is_the_hidden_state_and_its_signed_mean():
    module, (visible, infrared) = branch(residual="none"), streams()
    result = module(visible, infrared)
    assert module.lstm is not None
    hidden = module.lstm(visible.normalised_parts, infrared.normalised_parts)
    torch.testing.assert_close(result.parts, hidden)
    torch.testing.assert_close(result.pooled, hidden.mean(dim=1))
    assert (result.pooled < 0).any()


def test_the_branch_without_an_lstm_is_the_mean_of_the_parts():
    module, (visible, infrared) = branch(lstm=False), streams()
    result = module(visible, infrared)
    torch.testing.assert_close(result.parts, (visible.parts + infrared.parts) / 2)
    assert {name.split(".")[0] for name, _ in module.named_parameters()} == {"neck"}


@pytest.mark.parametrize("residual", ["mean", "none"])
@pytest.mark.parametrize("detached", [True, False])
def test_isolated_features_have_equal_values_and_never_a_gradient_to_the_inputs(residual, detached):
    inputs = streams()
    result = branch(residual=residual, detached=detached)(*inputs)
    torch.testing.assert_close(result.isolated_parts, result.parts, rtol=0, atol=0)
    torch.testing.assert_close(result.isolated_pooled, result.pooled, rtol=0, atol=0)
    (result.isolated_parts.sum() + result.isolated_pooled.sum()).backward(retain_graph=True)
    leaves = [leaf for stream in inputs for leaf in (stream.parts, stream.normalised_parts)]
    assert all(leaf.grad is None for leaf in leaves)
    result.logits.square().sum().backward()
    if detached:
        assert all(leaf.grad is None for leaf in leaves)
    else:
        reached = [leaf.grad is not None and bool(leaf.grad.any()) for leaf in leaves]
        assert reached == [residual == "mean", True] * 2


def test_a_branch_that_would_be_nothing_is_refused():
    with pytest.raises(ValueError, match="residual must be 'mean'"):
        branch(lstm=False, residual="none")

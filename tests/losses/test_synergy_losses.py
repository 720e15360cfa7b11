"""L_div and L_t against scipy, closed forms, and 300 steps on free features."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon
from scipy.special import softmax
from scipy.stats import entropy

from msclnet.losses.synergy import divergence_loss, soft_target_loss

LN_2 = math.log(2)
FORMS = ("js", "kl", "kl_hinge")


def random_pair(*, scale: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    return generator.standard_normal((4, 6, 9)) * scale, generator.standard_normal((4, 6, 9)) * scale


def loss_of(visible: np.ndarray, infrared: np.ndarray, **settings: Any) -> float:
    return divergence_loss(torch.tensor(visible), torch.tensor(infrared), **settings).item()


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("scale", [0.2, 2.0])
def test_the_divergence_equals_scipy_row_by_row(temperature, scale):
    visible, infrared = random_pair(scale=scale)
    js, kl, hinge = [], [], []
    for v, r in zip(visible.reshape(-1, 9), infrared.reshape(-1, 9), strict=True):
        p, q = softmax(v / temperature), softmax(r / temperature)
        js.append(-(jensenshannon(p, q) ** 2))
        kl.append(-entropy(p, q))
        hinge.append(max(0.0, 1 - entropy(p, q)) - 1)
    for form, rows in (("js", js), ("kl", kl), ("kl_hinge", hinge)):
        assert loss_of(visible, infrared, form=form, temperature=temperature) == pytest.approx(np.mean(rows))
        # Softmax sees no offset.
        assert loss_of(visible, visible + 5, form=form) == pytest.approx(0, abs=1e-12)


def test_two_channels_by_hand():
    # softmax of (ln 3, 0) is (3/4, 1/4); of (0, 0) it is (1/2, 1/2)
    visible, infrared = np.array([[math.log(3), 0.0]]), np.array([[0.0, 0.0]])
    kl = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    js = (0.75 * math.log(6 / 5) + 0.25 * math.log(2 / 3) + 0.5 * math.log(4 / 5) + 0.5 * math.log(4 / 3)) / 2
    for form, expected in (("kl", -kl), ("js", -js), ("kl_hinge", -kl)):
        assert loss_of(visible, infrared, form=form) == pytest.approx(expected)


def test_only_the_jensen_shannon_form_is_symmetric():
    visible, infrared = random_pair(scale=2.0)
    assert loss_of(visible, infrared, form="js") == pytest.approx(loss_of(infrared, visible, form="js"))
    assert abs(loss_of(visible, infrared, form="kl") - loss_of(infrared, visible, form="kl")) > 1e-2


@pytest.mark.parametrize("scale", [1.0, 30.0, 1e4])
def test_bounds(scale):
    visible, infrared = random_pair(scale=scale, seed=1)
    assert -LN_2 - 1e-9 <= loss_of(visible, infrared, form="js") <= 0
    assert -1 - 1e-9 <= loss_of(visible, infrared, form="kl_hinge") <= 0
    if scale == 1e4:
        # all of the mass on one channel each: the bound itself where the channels differ
        differs = (visible.argmax(-1) != infrared.argmax(-1)).mean()
        assert loss_of(visible, infrared, form="js") == pytest.approx(-LN_2 * differs, rel=1e-3)
        assert loss_of(visible, infrared, form="kl_hinge") == pytest.approx(-differs, rel=1e-3)
        assert loss_of(visible, infrared, form="kl") < -1000


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
def test_gradients_are_finite(form, scale):
    pair = [torch.tensor(x, dtype=torch.float32, requires_grad=True) for x in random_pair(scale=scale)]
    divergence_loss(pair[0], pair[1], form=form).backward()
    assert all(x.grad is not None and torch.isfinite(x.grad).all() for x in pair)


def test_a_large_temperature_hides_the_gradient():
    sizes = []
    for temperature in (1.0, 10.0, 100.0):
        visible, infrared = (torch.tensor(x, requires_grad=True) for x in random_pair(scale=1.0))
        divergence_loss(visible, infrared, temperature=temperature).backward()
        assert visible.grad is not None
        sizes.append(visible.grad.norm().item())
    assert sizes[0] > 30 * sizes[1] > 900 * sizes[2]


@pytest.mark.parametrize(("form", "bound"), [("js", -LN_2), ("kl_hinge", -1.0), ("kl", None)])
def test_the_bounded_forms_come_to_rest_in_300_steps_and_the_printed_one_does_not(form, bound):
    visible, infrared = (torch.tensor(x, requires_grad=True) for x in random_pair(scale=0.3))
    optimizer = torch.optim.SGD([visible, infrared], lr=20.0, momentum=0.9)
    loss = torch.tensor(0.0)
    for _ in range(300):
        loss = divergence_loss(visible, infrared, form=form)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if bound is None:
        assert loss.item() < -10
    else:
        assert bound - 1e-6 <= loss.item() < 0.8 * bound
        assert torch.cat([visible, infrared]).abs().max() < 100


def test_an_unknown_form_is_refused():
    with pytest.raises(ValueError, match="form must be one of"):
        divergence_loss(torch.zeros(1, 2), torch.zeros(1, 2), form="jsd")


def random_logits(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((5, 7)) * 3


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])
def test_the_soft_target_is_scipys_divergence_times_the_squared_temperature(temperature):
    student, teacher = (torch.tensor(random_logits(seed), requires_grad=True) for seed in (0, 1))
    loss = soft_target_loss(student, teacher, temperature=temperature)
    loss.backward()
    p, q = (softmax(x.detach().numpy() / temperature, axis=1) for x in (student, teacher))
    rows = [entropy(target, found) for target, found in zip(q, p, strict=True)]
    assert loss.item() == pytest.approx(temperature**2 * np.mean(rows))
    # d/ds of T^2 KL(q || softmax(s / T)) = T (softmax(s / T) - q), a fifth of it for the mean of five rows
    assert teacher.grad is None
    assert student.grad is not None
    np.testing.assert_allclose(student.grad.numpy(), temperature * (p - q) / 5, atol=1e-12)


def test_the_soft_target_is_zero_for_logits_that_differ_by_a_constant():
    teacher = torch.tensor(random_logits(2))
    for student in (teacher, teacher + 11):
        assert soft_target_loss(student, teacher, temperature=4.0).item() == pytest.approx(0, abs=1e-12)


def test_the_size_of_the_soft_targets_gradient_hardly_depends_on_a_high_temperature():
    sizes = []
    for temperature in (20.0, 40.0, 80.0):
        student = torch.tensor(random_logits(6), requires_grad=True)
        soft_target_loss(student, torch.tensor(random_logits(7)), temperature=temperature).backward()
        assert student.grad is not None
        sizes.append(student.grad.norm().item())
    np.testing.assert_allclose(sizes, sizes[-1], rtol=0.1)


def test_extreme_logits_stay_finite():
    student = torch.tensor([[500.0, -500.0, 0.0]], requires_grad=True)
    loss = soft_target_loss(student, torch.tensor([[-500.0, 500.0, 0.0]]), temperature=1.0)
    loss.backward()
    assert loss.item() == pytest.approx(1000, rel=1e-4)
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()

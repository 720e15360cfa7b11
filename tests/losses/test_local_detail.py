import math

import numpy as np
import pytest
import torch

from msclnet.losses.complement import local_loss

FORMS = ("stable", "printed", "cosine")


def at_angle(cosine: float) -> tuple[torch.Tensor, torch.Tensor]:
    """One image with one part; the vectors are not of unit length."""
    first = torch.tensor([[[3.0, 0.0]]], dtype=torch.float64)
    second = 0.2 * torch.tensor([[[cosine, math.sqrt(max(0.0, 1 - cosine**2))]]], dtype=torch.float64)
    return first, second


def value_at(cosine: float, form: str) -> float:
    return local_loss(*at_angle(cosine), form=form).item()


@pytest.mark.parametrize("form", FORMS)
def test_equals_a_loop_over_images_and_parts(form):
    generator = np.random.default_rng(0)
    synergistic, visible = generator.standard_normal((2, 5, 6, 8))
    total = 0.0
    for s_parts, v_parts in zip(synergistic, visible, strict=True):
        for s, v in zip(s_parts, v_parts, strict=True):
            cosine = (s @ v) / math.sqrt((s @ s) * (v @ v))
            root = math.sqrt(2 - 2 * cosine)
            total += {"stable": root, "printed": cosine + root, "cosine": 1 - cosine}[form]
    loss = local_loss(torch.tensor(synergistic), torch.tensor(visible), form=form)
    assert loss.item() == pytest.approx(total / 5, rel=1e-5)  # the parts are summed, the images averaged


@pytest.mark.parametrize(
    ("cosine", "stable", "printed", "one_minus"),
    [
        (1.0, 1e-3, 1.001, 0.0),
        (0.5, 1.0, 1.5, 0.5),
        (0.0, math.sqrt(2), math.sqrt(2), 1.0),
        (-1.0, 2.0, 1.0, 2.0),
    ],
)
def test_values_at_the_ends_and_between(cosine, stable, printed, one_minus):
    assert value_at(cosine, "stable") == pytest.approx(stable, abs=2e-6)
    assert value_at(cosine, "printed") == pytest.approx(printed, abs=2e-6)
    assert value_at(cosine, "cosine") == pytest.approx(one_minus, abs=1e-12)


def test_the_printed_form_is_highest_at_a_cosine_of_one_half_and_lowest_at_both_ends():
    cosines = np.linspace(-1, 1, 401)
    values = np.array([value_at(cosine, "printed") for cosine in cosines])
    highest = values.argmax()
    assert cosines[highest] == pytest.approx(0.5, abs=0.01)
    assert (np.diff(values[: highest + 1]) > 0).all()
    assert (np.diff(values[highest:]) < 0).all()
    assert values[0] == pytest.approx(1, abs=1e-5)
    assert values[-1] == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize("form", ["stable", "cosine"])
def test_the_other_forms_fall_all_the_way_to_a_cosine_of_one(form):
    values = [value_at(cosine, form) for cosine in np.linspace(-1, 1, 101)]
    assert (np.diff(values) < 0).all()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e3])
def test_gradients_are_finite_at_a_cosine_of_exactly_one(form, scale):
    for vector in ([1.0, 0.0, 0.0], [1.0, 2.0, 3.0]):
        synergistic = torch.tensor([[vector]], requires_grad=True)
        visible = (torch.tensor([[vector]]) * scale).requires_grad_(True)
        loss = local_loss(synergistic, visible, form=form)
        loss.backward()
        assert torch.isfinite(loss)
        for tensor in (synergistic, visible):
            assert tensor.grad is not None
            assert torch.isfinite(tensor.grad).all()


def rows_whose_cosine_exceeds_one() -> torch.Tensor:
    rows = torch.randn(20000, 1, 7, generator=torch.Generator().manual_seed(0))
    above = rows[torch.nn.functional.cosine_similarity(rows, rows * 3, dim=2)[:, 0] > 1]
    assert len(above) > 100, "rounding does not take any cosine above 1 here: the test shows nothing"
    return above


@pytest.mark.parametrize("form", FORMS)
def test_gradients_are_finite_where_rounding_takes_the_cosine_above_one(form):
    rows = rows_whose_cosine_exceeds_one()
    synergistic, visible = rows.clone().requires_grad_(True), (rows * 3).requires_grad_(True)
    loss = local_loss(synergistic, visible, form=form)
    loss.backward()
    assert torch.isfinite(loss)
    for tensor in (synergistic, visible):
        assert tensor.grad is not None
        assert torch.isfinite(tensor.grad).all()


def test_the_root_without_its_guard_is_no_number_there():
    rows = rows_whose_cosine_exceeds_one()
    cosine = torch.nn.functional.cosine_similarity(rows, rows * 3, dim=2)
    assert (2 - 2 * cosine).sqrt().isnan().all()


@pytest.mark.parametrize("form", FORMS)
def test_parts_of_zeros_have_finite_gradients(form):
    synergistic = torch.zeros(2, 3, 4, requires_grad=True)
    loss = local_loss(synergistic, torch.randn(2, 3, 4), form=form)
    loss.backward()
    assert synergistic.grad is not None
    assert torch.isfinite(loss)
    assert torch.isfinite(synergistic.grad).all()


def mean_cosine_after(form: str) -> float:
    generator = torch.Generator().manual_seed(0)
    synergistic = torch.randn(8, 6, 16, generator=generator, requires_grad=True)
    visible = torch.randn(8, 6, 16, generator=generator)
    optimizer = torch.optim.SGD([synergistic], lr=1.0, momentum=0.9)
    for _ in range(300):
        loss = local_loss(synergistic, visible, form=form)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        assert torch.isfinite(loss)
    return torch.nn.functional.cosine_similarity(synergistic, visible, dim=2).mean().item()


@pytest.mark.parametrize("form", ["stable", "cosine"])
def test_300_steps_align_the_parts(form):
    assert mean_cosine_after(form) > 0.99


def test_300_steps_of_the_printed_form_turn_fresh_parts_away():
    assert mean_cosine_after("printed") < -0.9


def test_an_unknown_form_is_refused():
    with pytest.raises(ValueError, match="form must be one of"):
        local_loss(torch.zeros(1, 1, 2), torch.zeros(1, 1, 2), form="euclidean")

"""L_ld and L_gs against loops over parts and identities, closed forms, and 300 steps on free features."""

import math

import numpy as np
import pytest
import torch
from torch.nn.functional import cosine_similarity, normalize

from msclnet.losses.complement import global_loss, local_loss

FORMS = ("stable", "printed", "cosine")


def value_at(cosine: float, form: str) -> float:
    """Of one image with one part; the vectors are not of unit length."""
    first = torch.tensor([[[3.0, 0.0]]], dtype=torch.float64)
    second = 0.2 * torch.tensor([[[cosine, math.sqrt(max(0.0, 1 - cosine**2))]]], dtype=torch.float64)
    return local_loss(first, second, form=form).item()


@pytest.mark.parametrize("form", FORMS)
def test_local_equals_a_loop_over_images_and_parts(form):
    synergistic, visible = np.random.default_rng(0).standard_normal((2, 5, 6, 8))
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
    [(1, 1e-3, 1.001, 0), (0.5, 1, 1.5, 0.5), (0, math.sqrt(2), math.sqrt(2), 1), (-1, 2, 1, 2)],
)
def test_values_at_the_ends_and_between(cosine, stable, printed, one_minus):
    assert value_at(cosine, "stable") == pytest.approx(stable, abs=2e-6)
    assert value_at(cosine, "printed") == pytest.approx(printed, abs=2e-6)
    assert value_at(cosine, "cosine") == pytest.approx(one_minus, abs=1e-12)


def test_the_printed_form_is_highest_at_a_cosine_of_one_half_and_the_others_fall_all_the_way():
    cosines = np.linspace(-1, 1, 401)
    values = {form: np.array([value_at(cosine, form) for cosine in cosines]) for form in FORMS}
    highest = values["printed"].argmax()
    assert cosines[highest] == pytest.approx(0.5, abs=0.01)
    assert (np.diff(values["printed"][: highest + 1]) > 0).all()
    assert (np.diff(values["printed"][highest:]) < 0).all()
    assert (np.diff(values["stable"]) < 0).all()
    assert (np.diff(values["cosine"]) < 0).all()


def rows_whose_cosine_exceeds_one() -> torch.Tensor:
    rows = torch.randn(20000, 1, 7, generator=torch.Generator().manual_seed(0))
    above = rows[cosine_similarity(rows, rows * 3, dim=2)[:, 0] > 1]
    assert len(above) > 100, "rounding does not take any cosine above 1 here: the test shows nothing"
    # The root without its guard is no number there.
    assert (2 - 2 * cosine_similarity(above, above * 3, dim=2)).sqrt().isnan().all()
    return above


EXACTLY_ONE = torch.tensor([[[1.0, 0.0, 0.0]], [[1.0, 2.0, 3.0]]])


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("make", "scale"),
    [
        *((lambda: EXACTLY_ONE, scale) for scale in (1.0, 1e-3, 1e3)),
        (rows_whose_cosine_exceeds_one, 3.0),
        (lambda: torch.zeros(2, 3, 4), 1.0),
    ],
)
def test_gradients_are_finite_at_a_cosine_of_one_and_above_and_for_zeros(form, make, scale):
    synergistic, visible = make().clone().requires_grad_(True), (make() * scale).requires_grad_(True)
    loss = local_loss(synergistic, visible, form=form)
    loss.backward()
    assert torch.isfinite(loss)
    for tensor in (synergistic, visible):
        assert tensor.grad is not None
        assert torch.isfinite(tensor.grad).all()


@pytest.mark.parametrize("form", FORMS)
def test_300_steps_align_the_parts_and_those_of_the_printed_form_turn_them_away(form):
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
    cosine = cosine_similarity(synergistic, visible, dim=2).mean().item()
    assert cosine < -0.9 if form == "printed" else cosine > 0.99


def test_an_unknown_form_is_refused():
    with pytest.raises(ValueError, match="form must be one of"):
        local_loss(torch.zeros(1, 1, 2), torch.zeros(1, 1, 2), form="euclidean")


def test_global_equals_a_loop_over_the_identities():
    synergistic, infrared = np.random.default_rng(0).standard_normal((2, 11, 6))
    identities = np.array([4, 1, 1, 9, 4, 4, 9, 0, 1, 4, 9])
    distances = []
    for identity in set(identities.tolist()):
        rows = identities == identity
        distances.append(((synergistic[rows].mean(0) - infrared[rows].mean(0)) ** 2).sum())
    loss = global_loss(torch.tensor(synergistic), torch.tensor(infrared), torch.tensor(identities))
    assert loss.item() == pytest.approx(np.mean(distances))


def test_global_by_hand():
    synergistic = torch.tensor([[0.0, 0.0], [2.0, 0.0], [5.0, 5.0]])
    infrared = torch.tensor([[1.0, 1.0], [1.0, 3.0], [5.0, 2.0]])
    # centres (1, 0) and (1, 2): 4; (5, 5) and (5, 2): 9
    assert global_loss(synergistic, infrared, torch.tensor([8, 8, 3])).item() == pytest.approx((4 + 9) / 2)
    # equal centres of different features
    synergistic = torch.tensor([[0.0, 1.0], [2.0, 3.0]], requires_grad=True)
    loss = global_loss(synergistic, torch.tensor([[1.0, 5.0], [1.0, -1.0]]), torch.tensor([2, 2]))
    loss.backward()
    assert loss.item() == 0
    assert synergistic.grad is not None
    assert not synergistic.grad.any()
    # unit vectors are at most four apart
    one = normalize(torch.randn(64, 5, generator=torch.Generator().manual_seed(0)))
    assert global_loss(one, -one, torch.arange(64)).item() == pytest.approx(4, rel=1e-5)


def test_300_steps_bring_the_centres_together():
    generator = torch.Generator().manual_seed(1)
    synergistic = torch.randn(12, 8, generator=generator, requires_grad=True)
    infrared = normalize(torch.randn(12, 8, generator=generator))
    identities = torch.arange(4).repeat_interleave(3)
    optimizer = torch.optim.SGD([synergistic], lr=1.0, momentum=0.9)
    norm_at_start, losses = synergistic.norm().item(), []
    for _ in range(300):
        loss = global_loss(normalize(synergistic), infrared, identities)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.01 * losses[0]
    assert 0.5 * norm_at_start < synergistic.norm().item() < 3 * norm_at_start

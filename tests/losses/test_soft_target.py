import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import entropy

from msclnet.losses.synergy import soft_target_loss


def random_logits(seed: int, *, scale: float = 3.0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((5, 7)) * scale


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0, 20.0])
def test_equals_scipys_divergence_times_the_squared_temperature(temperature):
    student, teacher = random_logits(0), random_logits(1)
    rows = [
        entropy(softmax(t / temperature), softmax(s / temperature))
        for s, t in zip(student, teacher, strict=True)
    ]
    loss = soft_target_loss(torch.tensor(student), torch.tensor(teacher), temperature=temperature)
    assert loss.item() == pytest.approx(temperature**2 * np.mean(rows))


def test_zero_at_equality_and_for_logits_that_differ_by_a_constant():
    teacher = torch.tensor(random_logits(2))
    for student in (teacher, teacher + 11):
        assert soft_target_loss(student, teacher, temperature=4.0).item() == pytest.approx(0, abs=1e-12)
    assert soft_target_loss(torch.tensor(random_logits(3)), teacher, temperature=4.0).item() > 0.1


def test_the_teacher_gets_no_gradient_and_the_student_the_closed_form():
    temperature = 4.0
    student = torch.tensor(random_logits(4), requires_grad=True)
    teacher = torch.tensor(random_logits(5), requires_grad=True)
    soft_target_loss(student, teacher, temperature=temperature).backward()
    assert teacher.grad is None
    # d/ds of T^2 KL(q || softmax(s / T)) = T (softmax(s / T) - q), a fifth of it for the mean of five rows
    p = softmax(student.detach().numpy() / temperature, axis=1)
    q = softmax(teacher.detach().numpy() / temperature, axis=1)
    assert student.grad is not None
    np.testing.assert_allclose(student.grad.numpy(), temperature * (p - q) / 5, atol=1e-12)


def test_the_gradients_size_hardly_depends_on_a_high_temperature():
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

"""A Mogrifier LSTM step for one row, in plain numpy and double precision: the oracle of two test files."""

import numpy as np
from torch import nn

from msclnet.models.mogrifier import Gate, MogrifierLSTMCell


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def matrix_and_bias(gate: nn.Module) -> tuple[np.ndarray, np.ndarray | float]:
    """W (target, source) of a gate, multiplied out where it is a product, and its bias."""
    assert isinstance(gate, Gate)
    layers = list(gate.linear) if isinstance(gate.linear, nn.Sequential) else [gate.linear]
    product, bias = None, 0.0
    for layer in layers:
        assert isinstance(layer, nn.Linear)
        weight = layer.weight.detach().double().numpy()
        product = weight if product is None else weight @ product
        if layer.bias is not None:
            bias = layer.bias.detach().double().numpy()
    assert product is not None
    return product, bias


def step(
    cell: MogrifierLSTMCell, x: np.ndarray, h: np.ndarray, c: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(h, c) after x."""
    for i, gate in enumerate(cell.gates, start=1):
        weight, bias = matrix_and_bias(gate)
        if i % 2 == 1:
            x = 2 * sigmoid(weight @ h + bias) * x
        else:
            h = 2 * sigmoid(weight @ x + bias) * h
    lstm = cell.lstm
    total = (
        lstm.weight_ih.detach().double().numpy() @ x
        + lstm.bias_ih.detach().double().numpy()
        + lstm.weight_hh.detach().double().numpy() @ h
        + lstm.bias_hh.detach().double().numpy()
    )
    enter, forget, candidate, leave = np.split(total, 4)
    c = sigmoid(forget) * c + sigmoid(enter) * np.tanh(candidate)
    return sigmoid(leave) * np.tanh(c), c

"""Training history: one panel per column, sparse and broken columns included."""

from typing import Any

import numpy as np
import pytest

from msclnet.figures.curves import group_of, history_figure


def panels(figure) -> dict[str, Any]:
    return {axes.get_title(loc="left"): axes for axes in figure.axes if axes.get_visible()}


def test_every_column_has_a_panel_with_its_measured_points(make_history, assert_legible):
    history = make_history(40)
    figure = history_figure(history)
    drawn = panels(figure)
    assert set(drawn) == set(history) - {"epoch"}
    for name, axes in drawn.items():
        values = np.array(history[name])
        measured = ~np.isnan(values)
        (line,) = axes.lines
        assert line.get_xdata().tolist() == np.array(history["epoch"])[measured].tolist()
        assert line.get_ydata().tolist() == values[measured].tolist()
        assert axes.get_ylim()[0] <= values[measured].min()
        assert values[measured].max() <= axes.get_ylim()[1]
    assert_legible(figure)


def test_panels_come_by_group_and_gradients_share_a_logarithmic_axis(make_history):
    drawn = panels(history_figure(make_history(20)))
    groups = [group_of(name) for name in drawn]
    assert groups == sorted(groups, key=["loss", "learning rate", "validation", "gradient", "other"].index)
    gradients = [axes for name, axes in drawn.items() if name.startswith("gradient/")]
    assert {axes.get_yscale() for axes in gradients} == {"log"}
    assert len({axes.get_ylim() for axes in gradients}) == 1
    assert drawn["loss/div"].get_yscale() == "linear"


@pytest.mark.parametrize(
    ("column", "group"),
    [
        ("loss/triplet", "loss"),
        ("loss_div", "loss"),
        ("train/loss", "loss"),
        ("lr", "learning rate"),
        ("learning_rate", "learning rate"),
        ("val/mAP", "validation"),
        ("validation.rank1", "validation"),
        ("gradient/t", "gradient"),
        ("grad_norm/t", "gradient"),
        ("images_per_second", "other"),
        ("value", "other"),
        ("lrx", "other"),
    ],
)
def test_group_by_name(column, group):
    assert group_of(column) == group


def test_units_and_epochs_by_default(assert_legible):
    figure = history_figure(
        {"val/rank1": [0.1, np.nan, 0.3], "feature_norm": [1, 2, 3]}, units={"val/rank1": "share"}
    )
    drawn = panels(figure)
    assert drawn["val/rank1"].get_ylabel() == "share"
    assert drawn["val/rank1"].lines[0].get_xdata().tolist() == [1, 3]
    assert drawn["feature_norm"].get_xlabel() == "epoch"
    assert_legible(figure)


def test_single_epoch_missing_infinite_and_zero_columns_are_explained(assert_legible):
    inf, nan = float("inf"), float("nan")
    history = {
        "epoch": [7, 8],
        "loss/total": [2.0, inf],
        "loss/div": [nan, nan],
        "loss/gone": [-inf, inf],
        "gradient/t": [0.0, 0.0],
    }
    figure = history_figure(history)
    drawn = panels(figure)
    assert drawn["loss/total"].texts[0].get_text() == "infinite in 1 of 2 epochs"
    assert drawn["loss/total"].lines[0].get_xdata().tolist() == [7]
    assert drawn["loss/div"].texts[0].get_text() == "not measured"
    assert drawn["loss/gone"].texts[0].get_text() == "infinite in 2 of 2 epochs"
    assert drawn["gradient/t"].texts[0].get_text() == "does not reach\nthe extractors"
    assert not drawn["gradient/t"].lines
    assert_legible(figure)
    assert_legible(history_figure({"epoch": [1.0], "loss/total": [5.0], "lr": [0.1]}))


@pytest.mark.parametrize("history", [{}, {"epoch": [1, 2]}, {"loss/total": []}, {"epoch": [], "lr": []}])
def test_empty_history_is_refused(history):
    with pytest.raises(ValueError, match="empty"):
        history_figure(history)


def test_columns_of_unequal_length_are_refused():
    with pytest.raises(ValueError, match=r"lengths \[2, 3\]"):
        history_figure({"epoch": [1, 2], "lr": [1, 2, 3]})

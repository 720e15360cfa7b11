"""Training history: one panel per column, sparse and broken columns included; CMC: means and bands in percent."""

from typing import Any

import numpy as np
import pytest

from msclnet.figures.curves import cmc_figure, group_of, history_figure, reliability_figure


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
    gradients = [axes for name, axes in drawn.items() if name.startswith("gradient_")]
    assert {axes.get_yscale() for axes in gradients} == {"log"}
    assert len({axes.get_ylim() for axes in gradients}) == 1
    assert drawn["loss_div"].get_yscale() == "linear"


def test_columns_without_a_known_prefix_come_last():
    names = ["images_per_second", "val_score", "learning_rate", "gradient_inter", "loss_inter", "total"]
    assert list(map(group_of, names)) == ["other", "validation", "learning rate", "gradient", "loss", "other"]


def test_a_sparse_column_without_epochs_of_its_own_keeps_its_places(assert_legible):
    figure = history_figure({"epoch": [1, 2, 3], "val_score": [0.1, np.nan, 0.3], "feature_norm": [1, 2, 3]})
    drawn = panels(figure)
    assert drawn["val_score"].lines[0].get_xdata().tolist() == [1, 3]
    assert drawn["feature_norm"].get_xlabel() == "epoch"
    assert_legible(figure)


def test_single_epoch_missing_infinite_and_zero_columns_are_explained(assert_legible):
    inf, nan = float("inf"), float("nan")
    history = {
        "epoch": [7, 8],
        "loss_total": [2.0, inf],
        "loss_div": [nan, nan],
        "loss_gone": [-inf, inf],
        "gradient_t": [0.0, 0.0],
    }
    figure = history_figure(history)
    drawn = panels(figure)
    assert drawn["loss_total"].texts[0].get_text() == "infinite in 1 of 2 epochs"
    assert drawn["loss_total"].lines[0].get_xdata().tolist() == [7]
    assert drawn["loss_div"].texts[0].get_text() == "not measured"
    assert drawn["loss_gone"].texts[0].get_text() == "infinite in 2 of 2 epochs"
    assert drawn["gradient_t"].texts[0].get_text() == "does not reach\nthe extractors"
    assert not drawn["gradient_t"].lines
    assert_legible(figure)
    assert_legible(history_figure({"epoch": [1.0], "loss_total": [5.0], "learning_rate": [0.1]}))


@pytest.mark.parametrize("longest", [1, 20])
def test_curves_bands_and_chance(assert_legible, longest):
    mean = np.linspace(0.3, 0.9, longest)
    std = np.full(longest, 0.02)
    figure = cmc_figure(
        {"MSCLNet": (mean, std), "baseline": (mean / 2, std)},
        chance={"random ranker": np.linspace(0.01, 0.2, longest)},
        title="CMC",
        caption="Synthetic data, infrared → visible, all-search, single-shot",
    )
    axes: Any = figure.axes[0]
    assert len(figure.axes) == 1
    ranks = list(range(1, longest + 1))
    assert [line.get_xdata().tolist() for line in axes.lines] == [ranks] * 3
    np.testing.assert_allclose(axes.lines[0].get_ydata(), 100 * mean)
    np.testing.assert_allclose(axes.lines[1].get_ydata(), 50 * mean)
    np.testing.assert_allclose(axes.lines[2].get_ydata(), 100 * np.linspace(0.01, 0.2, longest))
    band = axes.collections[0].get_paths()[0].vertices
    assert band[:, 1].min() == pytest.approx(28)
    assert band[:, 1].max() == pytest.approx(100 * mean[-1] + 2)
    assert len({str(line.get_linestyle()) for line in axes.lines}) == 3
    texts = [text.get_text() for text in axes.get_legend().get_texts()]
    assert texts == [
        "MSCLNet: Rank-1 30.0 ± 2.0 %",
        "baseline: Rank-1 15.0 ± 2.0 %",
        "random ranker: Rank-1 1.0 %",
    ]
    assert len(axes.get_xticks()) >= 1
    assert_legible(figure)


def test_a_reliability_diagram_has_a_panel_for_each_kind_and_its_bins_in_percent(assert_legible):
    bins = [(100_000, 0.01, 0.02), (50, 0.45, 0.3), (7, 0.97, 1.0)]
    lines = {"all pairs: error 0.03 %": bins, "top 20: error 0.21 %": bins[1:]}
    kinds: dict[str, Any] = dict.fromkeys(["cross-modal, 2.5 % same person", "visible, 2.5 %"], lines)
    figure = reliability_figure(kinds, caption="synthetic, validation identities")
    assert list(panels(figure)) == list(kinds)
    for axes in figure.axes:
        diagonal, *drawn = axes.lines
        np.testing.assert_array_equal(np.array(diagonal.get_xydata()), [[0, 0], [100, 100]])
        for line, expected in zip(drawn, lines.values(), strict=True):
            np.testing.assert_allclose(np.array(line.get_xydata()), 100 * np.array(expected)[:, 1:])
    assert_legible(figure)
    empty = reliability_figure({}, caption="none")
    assert empty.axes[0].texts[0].get_text() == "no validation identities to fit on"
    assert_legible(empty)

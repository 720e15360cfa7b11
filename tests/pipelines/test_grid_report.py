"""The report's sections over grids, from made-up records."""

import re
import shutil
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import ttest_rel

from msclnet.recipe import RECIPE
from pipelines.experiments.equivalence import effective
from pipelines.experiments.grid import grid_names, load_grid
from pipelines.experiments.plan import relevant
from pipelines.experiments.results import read_results, recipe_of, records_file, write_result
from pipelines.report import build, grid_figures
from pipelines.report.grid_figures import curves_of_divergence, diverged, mean_history, why_diverged
from pipelines.report.grids import cost, grid_table
from pipelines.report.results import Own, read_view, row_params

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The project's grids without their records."""
    for name in ("presets", "experiments"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("results"))
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def write(root: Path, grid: str, row: str, seed: int, rank1: float, **changes: Any) -> None:
    declared = load_grid(root, grid)
    found = next(each for each in declared.all_rows if each.name == row)
    params = relevant(root, row_params(root, declared, found), last_stage=declared.until)
    figures: dict[str, Any] = {"validation": {"score": rank1}}
    if declared.score == "test":
        figures["test"] = {"all-1shot-agw": {"mean": {"rank1": rank1, "mAP": rank1 - 2}, "std": {}}}
    record = {
        "grid": grid,
        "row": row,
        "seed": seed,
        "score": declared.score,
        "params": {**params, "seed": seed},
        "recipe": 1,
        "data": {"data/processed/manifest.csv": "digest"},
        "machine": {"cores": 2, "device": "a processor", "torch": "2"},
        "training": {"epochs": 2, "steps": 100, "seconds": 20.0},
        "figures": figures,
        "history": {"epoch": [1, 2], "total": [4, 2], "loss_identity": [3, 1], "val_score": [None, rank1]},
        **changes,
    }
    write_result(root, grid, record)


def table(root: Path, grid: str) -> dict[str, list[str]]:
    """First cell -> the others."""
    frame = grid_table(read_view(root, grid))
    return {first: list(cells) for first, *cells in frame.itertuples(index=False, name=None)}


def test_table_1_next_to_the_papers(project: Path) -> None:
    base, whole = [20.0, 23.0, 21.5], [30.0, 31.0, 35.0]
    for seed in range(3):
        write(project, "ablation", "B", seed, base[seed])
        write(project, "ablation", "whole", seed, whole[seed])
    write(project, "ablation", "CA", 0, 25.0)
    rows = table(project, "ablation")

    assert len(rows) == 15
    assert rows["B"][:6] == ["59.82", "56.07", "3", "21.50 ± 1.50", "19.50 ± 1.50", "baseline"]
    interval = ttest_rel(whole, base).confidence_interval()
    gain = f"+10.50 [{interval.low:+.2f}, {interval.high:+.2f}]"
    assert rows["B + MS + MC + CA"][:6] == ["76.99", "71.64", "3", "32.00 ± 2.65", "30.00 ± 2.65", gain]
    assert rows["B + CA"][2:6] == ["1", "25.00", "23.00", "+5.00 (one seed)"]
    assert rows["B + L_sub"][2:6] == ["", "not run", "not run", "not run"]
    for row, same in {"B + L_global": "B", "B + L_local": "B", "B + MC": "B", "B + MC + CA": "CA"}.items():
        assert rows[row][2:6] == ["", f"as {same}", f"as {same}", "-"]
        assert rows[row][6].startswith("Identical by construction to B")


def test_what_was_not_run_is_marked(project: Path) -> None:
    for grid in ("ablation", "baseline"):
        assert all(
            "not run" in cells or any("Identical" in cell for cell in cells)
            for cells in table(project, grid).values()
        )
    text = report(project)
    assert "Ours: not run." in text
    assert "](rank1.png)" not in text
    titles = re.findall(r"^## (.+)$", text, re.MULTILINE)
    assert titles[1:] == [
        "Table 1: what each loss is worth",
        "Figure 5: features and distances",
        "Figure 6: how much the weights matter",
        "Readings, parts and controls",
        "Learning curves",
        "Cost",
    ]


def report(project: Path) -> str:
    """report.md of a project where nothing but grids was run."""
    build.write(project, Own(), {name: read_view(project, name) for name in grid_names(project)})
    return (project / "results/report/report.md").read_text()


def test_records_of_other_settings_or_code_are_not_passed_off(project: Path) -> None:
    write(project, "ablation", "B", 0, 20.0)
    write(project, "ablation", "B", 1, 99.0, params={"train.epochs": 1})
    write(project, "ablation", "whole", 0, 30.0, recipe=2)
    view = read_view(project, "ablation")

    assert {row.row.name: row.statistics.seeds for row in view.rows if row.statistics.seeds} == {
        "B": (0,),
        "whole": (0,),
    }
    warnings = view.warnings
    assert len(warnings) == 2
    assert "1 records were made with other parameters" in warnings[0]
    assert "`B, seed 1` of experiments/results/ablation.jsonl" in warnings[0]
    assert "2 different recipes" in warnings[1]


def test_divergence_cost_and_curves(project: Path) -> None:
    write(project, "readings", "default", 0, 20.0)
    message = "training stopped in epoch 3, step 20: loss_inter = nan. Lower the rate"
    for seed in (0, 1):
        write(project, "readings", "div-kl", seed, 0.0, diverged=message, figures={})
    write(project, "screening", "B", 0, 20.0)
    views = [read_view(project, name) for name in ("readings", "screening")]
    rows = table(project, "readings")
    assert rows["L_div: minus KL, as printed (with a softmax)"][:2] == ["2", "diverged"]
    found = diverged(views)
    assert found is not None
    assert found[0].to_numpy().tolist() == [
        ["readings, div-kl", "0, 1", "training stopped in epoch 3, step 20: loss_inter = nan"]
    ]
    costs = cost(views)
    cells = {tuple(row[:2]): row[2:] for row in costs.to_numpy().tolist()}
    assert cells["screening", "B"][:4] == ["1", "100", "20", "5.0"]
    assert cells["screening", "all"][2] == "0.01 h together"


def test_the_readmes_picture_shows_each_seed_of_both_rows(project: Path) -> None:
    for row, values in (("whole", (50.0, 40.0, 45.0)), ("B", (20.0,))):
        for seed, rank1 in enumerate(values):
            means = {"mean": {"rank1": rank1, "mAP": 1.0}, "random": {"rank1": 1.0}}
            write(project, "baseline", row, seed, 0.0, figures={"test": {"all-1shot-agw": means}})
    figure = grid_figures.rank1(read_view(project, "baseline"))
    axes: Any = figure.axes[0]
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([45, 20])
    assert [cloud.get_offsets()[:, 0].tolist() for cloud in axes.collections] == [[50, 40, 45], [20]]
    assert axes.get_ylim()[0] > axes.get_ylim()[1]  # the first row on top
    assert [text.get_text() for text in axes.texts] == ["45.0 %", "20.0 %"]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["random ranker 1.0 %"]
    assert "100 test identities" in figure.get_supxlabel()
    assert "seeds 0 to 2" in figure.get_supxlabel()


def test_the_picture_is_part_of_the_report(project: Path) -> None:
    write(project, "baseline", "whole", 0, 30.0)
    assert "](rank1.png)" in report(project)
    assert (project / "results/report/rank1.png").read_bytes().startswith(b"\x89PNG")


def test_where_a_training_diverged_is_drawn_from_what_its_record_has() -> None:
    last = {"step": [121, 122, 123], "total": [3.0, 50.0, None], "feature_norm": [10.0, 1e3, 1e6]}
    record = {
        "row": "printed",
        "params": {"train.steps_per_epoch": 100},
        "history": {},
        "diverged": "stopped",
    }
    figure = curves_of_divergence(
        [
            record | {"seed": 0, "last_steps": last},
            record | {"seed": 1, "history": {"epoch": [1, 2], "total": [4, 3], "feature_norm": [9, 8]}},
            record | {"seed": 2},
        ]
    )
    steps, epochs, nothing, norms = (figure.axes[i] for i in (0, 1, 2, 3))
    assert np.asarray(steps.lines[1].get_xdata()).tolist() == [1.21, 1.22, 1.23]
    assert np.asarray(steps.lines[1].get_ydata())[:2].tolist() == [3.0, 50.0]
    assert np.asarray(epochs.lines[0].get_ydata()).tolist() == [4, 3]
    assert [text.get_text() for text in nothing.texts] == ["ended in its first epoch"]
    assert norms.get_yscale() == "log"
    assert np.asarray(norms.lines[1].get_ydata()).tolist() == [10.0, 1e3, 1e6]


@pytest.mark.parametrize(
    ("last", "expected"),
    [
        ({"feature_norm": 11.0, "loss_divergence": -0.69}, ""),
        ({"feature_norm": 1.01, "loss_inter": 0.0}, ""),
        ({"feature_norm": 0.99}, "reached its end with mean feature norm = 0.99, of the baseline 10"),
        ({"feature_norm": 101.0}, "reached its end with mean feature norm = 101, of the baseline 10"),
        ({"feature_norm": 9.0, "loss_divergence": -58.9}, "reached its end with loss_divergence = -58.9"),
        ({}, ""),
    ],
)
def test_what_ran_off_without_being_stopped_is_named(last: dict[str, float], expected: str) -> None:
    baseline: list[dict[str, Any]] = [
        {"history": {"feature_norm": [15.0, norm]}} for norm in (8.0, 12.0, None)
    ]
    baseline += [{"history": {"feature_norm": [1e9]}, "diverged": "training stopped"}, {"history": {}}]
    record = {"history": {name: [10.0, value] for name, value in last.items()}}
    assert why_diverged(record, baseline) == expected
    assert why_diverged(record | {"diverged": "training stopped in epoch 1. Lower"}, baseline) == (
        "training stopped in epoch 1"
    )


def test_the_mean_history_leaves_gaps_alone() -> None:
    records = [
        {"history": {"epoch": [1, 2, 3], "val_score": [None, 10.0, None]}},
        {"history": {"epoch": [1, 2, 3], "val_score": [None, 14.0, 8.0]}},
        {"history": {"epoch": [1], "val_score": [1.0]}, "diverged": "training stopped"},
    ]
    found = mean_history(records)
    assert list(found["epoch"]) == [1, 2, 3]
    assert np.isnan(found["val_score"].tolist()[0])
    assert list(found["val_score"][1:]) == [12.0, 8.0]


def test_every_row_of_every_grid_is_a_valid_setting_of_its_own(project: Path) -> None:
    from pipelines.orchestration.experiments import apply_overrides
    from pipelines.stages.config import check_params, flatten, read_yaml
    from pipelines.stages.presets import apply_preset, load_preset

    for name in grid_names(project):
        grid = load_grid(project, name)
        for row in grid.all_rows:
            preset = load_preset(row.preset or grid.preset, project)
            params = row_params(project, grid, row)
            assert params.keys() == flatten(preset).keys(), "an override names a value that there is"
            for key, value in params.items():
                *sections, last = key.split(".")
                reduce(lambda values, section: values[section], sections, preset)[last] = value
            check_params(preset, source=f"{name}, {row.name}")
        # The file of a cell has the same values; one row is enough, for reading it takes long.
        cell = project / "cell.yaml"
        apply_preset(project, row.preset or grid.preset, target=cell)
        apply_overrides(cell, {**flatten(grid.overrides), **flatten(row.overrides)})
        assert effective(flatten(read_yaml(cell))) == effective(params)


def test_table_1_and_figure_6_have_the_papers_rows(project: Path) -> None:
    papers = [
        (row.paper.rank1, row.paper.mAP) for row in load_grid(project, "ablation").all_rows if row.paper
    ]
    assert len(papers) == 15
    assert (papers[0], papers[12], papers[14]) == ((59.82, 56.07), (69.78, 65.29), (76.99, 71.64))
    points = [row.point for row in load_grid(project, "sensitivity").all_rows if row.point]
    assert sorted({point.value for point in points}) == [0.1, 0.8, 1.25, 1.5, 1.75, 2, 4, 6, 9]
    assert [point.parameter for point in points].count("lambda_global") == 9
    assert len(points) == 36


@pytest.mark.parametrize("name", [name for name in grid_names(ROOT) if (ROOT / records_file(name)).exists()])
def test_every_committed_record_is_shown_and_can_be_continued(name: str) -> None:
    records = read_results(ROOT, name)
    assert records
    assert read_view(ROOT, name).stale == []
    assert {recipe_of(record) for record in records} == {RECIPE}

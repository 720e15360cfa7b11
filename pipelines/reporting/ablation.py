"""Section: Table 1 of the paper, what each loss is worth."""

from matplotlib.axes import Axes

from msclnet.visualization.style import INFRARED, NEUTRAL, RIGHT, SMALL_SIZE, new_figure, styled
from pipelines.reporting.document import Block, Heading, Paragraph, Picture, Section
from pipelines.reporting.grid_table import grid_table
from pipelines.reporting.grid_view import GridView, RowView, budget
from pipelines.reporting.pictures import picture

TITLE = "Table 1: what each loss is worth"
MEANING = (
    "Ours: mean ± sample deviation over the seeds; gain over the baseline: mean of the differences seed by seed (same "
    "seed, same identities) with the interval of the paired t-test."
)


def ablation(view: GridView, screening: GridView) -> Section:
    """The paper's rows with ours beside them.

    Args:
        view: experiments/ablation.yaml.
        screening: the same rows at a smaller budget.
    """
    blocks: list[Block] = [
        Paragraph(
            "The paper's figures are of SYSU-MM01 with a ResNet-50 pretrained on ImageNet; ours are of the rendered "
            "synthetic data set with a small network from scratch. The two cannot be compared as numbers: what can be "
            "compared is whether a loss helps, and which row is the best. At full length all of ours have the default "
            "preset's channel exchange and average of weights, at screening size none has; the paper has neither."
        ),
        Paragraph(
            "L_t is this project's reading (soft targets), not the printed equation; with it, and with the gradient "
            "routing of eq. 14 to 16, L_local and L_global reach the tested extractors through the soft target alone. "
            "Rows that have L_com without L_t are therefore identical by construction to the row without L_com: they "
            "are not run, and must not be counted as evidence for or against anything."
        ),
        Paragraph(f"Budget: {budget(view)}. Run by `python -m pipelines.flows grid ablation`."),
        *view.warnings(),
        grid_table(view, MEANING),
    ]
    if any(row.statistics.differences for row in view.rows):
        blocks.append(gains(view))
    blocks += [
        Heading("The same rows at screening size"),
        Paragraph(
            f"Budget: {budget(screening)}. Run by `python -m pipelines.flows grid ablation-screening`."
        ),
        *screening.warnings(),
        grid_table(screening, MEANING + " Score: mean of Rank-1 and mAP over both directions."),
    ]
    return Section(TITLE, blocks)


@styled()
def gains(view: GridView) -> Picture:
    """Gain over B in Rank-1: the paper's in one panel, ours with its interval in another."""
    figure = new_figure(10, 1.4 + 0.27 * len(view.rows), title="Gain over the baseline in Rank-1")
    left, right = figure.subplots(1, 2, sharey=True)
    base = next(row.row.paper for row in view.rows if row.row.name == view.grid.baseline)
    for height, row in enumerate(view.rows):
        if row.row.paper and base:
            left.plot(row.row.paper.rank1 - base.rank1, height, "o", color=INFRARED, markersize=6)
        difference = row.statistics.differences.get("Rank-1")
        if difference is None:
            _word(right, height, "baseline" if row.row.name == view.grid.baseline else _reason(row))
            continue
        colour = RIGHT if difference.clear else NEUTRAL
        if difference.low is not None and difference.high is not None:
            right.plot(
                [difference.low, difference.high], [height, height], color=colour, linewidth=2, alpha=0.6
            )
        right.plot(difference.mean, height, "o", color=colour, markersize=6)
    for axes, title in ((left, "paper, SYSU-MM01"), (right, "this project, synthetic data")):
        axes.axvline(0, color=NEUTRAL, linewidth=1)
        axes.set(title=title, xlabel="percentage points")
    left.set_yticks(range(len(view.rows)), [row.row.shown for row in view.rows], fontsize=SMALL_SIZE)
    left.invert_yaxis()
    confidence = f"{100 * (1 - view.grid.alpha):g} %"
    return picture(
        "ablation",
        figure,
        description="Gain of each row of Table 1 over the baseline, the paper's and ours",
        caption=f"Line: {confidence} interval of the paired difference; green where it leaves 0 out, grey where it "
        "does not or where there is one seed. The axes have different scales.",
    )


def _reason(row: RowView) -> str:
    if row.same_as:
        return f"identical to {row.same_as.shown}"
    return "diverged" if row.statistics.diverged else "not run"


def _word(axes: Axes, height: int, word: str) -> None:
    axes.annotate(word, (0, height), xytext=(6, 0), textcoords="offset points", va="center", color=NEUTRAL)

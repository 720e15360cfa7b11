import base64
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from msclnet.errors import UserError
from pipelines.experiments.splits import summarise, write_summary
from pipelines.report import build, published
from pipelines.report.results import OURS, read_own, read_published
from pipelines.stages.presets import load_preset

ROOT = Path(__file__).resolve().parents[2]
METRICS = ("rank1", "rank5", "rank10", "rank20", "mAP", "mINP")
DIRECTIONS = ("visible-to-infrared", "infrared-to-visible")
PAPERS, OWN = 0xD55E00, 0x009E73  # colours of the rows


def one(dataset: str, place: int, **labels: Any) -> dict[str, Any]:
    """A report as `evaluate` writes it; its figures follow from its place."""
    figures = {
        metric: {"mean": 0.1 * i + 0.01 * place + 0.00004, "std": 0.001 * place + 0.00004}
        for i, metric in enumerate(METRICS)
    }
    defaults = {
        "mode": None,
        "shots": None,
        "sampler": None,
        "direction": "infrared-to-visible",
        "split": None,
    }
    rest = {"feature": "bnneck", "flip": False, "re_ranking": False, "trials": 10, "cmc": [0.5]}
    return {"dataset": dataset, **defaults, **rest, **figures, **labels}


def shown(place: int, metric: str) -> str:
    """The same figure as the report should print it."""
    return f"{10 * METRICS.index(metric) + place:.2f} ± {0.1 * place:.2f}"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    (tmp_path / "presets").mkdir()
    for name in ("synthetic", "baseline", "sysu-mm01"):
        (tmp_path / "presets" / f"{name}.yaml").write_bytes((ROOT / "presets" / f"{name}.yaml").read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


def put(root: Path, path: str, values: Any) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(json.dumps(values))


def trained_by(root: Path, preset: str, **train: Any) -> None:
    """A dvc.lock that says so, and the training's run."""
    values = load_preset(preset, ROOT)
    params = {
        name: values[name] for name in ("seed", "augment", "model", "synergy", "loss", "train", "tracking")
    }
    params["train"] = {**params["train"], **train}
    params["download.dataset"] = values["download"]["dataset"]
    put(root, "dvc.lock", {"stages": {"train": {"cmd": "", "params": {"params.yaml": params}}}})
    put(root, "results/train/run.json", {"epochs": 7, "experiment": "a <b> & c", "run_name": "slim-seed0"})


class Shown:
    """What the report shows of this folder: its tables by the heading above them, and its text."""

    def __init__(self, root: Path) -> None:
        build.report(root)
        self.folder = root / "results" / "report"
        self.text = (self.folder / "report.md").read_text()
        own = read_own(root)
        self.tables = {"SYSU-MM01": published.sysu_mm01(own), "RegDB": published.regdb(own)}
        self.others = published.sysu_mm01_others(own)

    def ours(self, heading: str) -> list[list[str]]:
        """Our rows of the table."""
        frame = self.tables[heading]
        return frame[frame["Method"].str.startswith("this project")].to_numpy().tolist()

    def colours(self, picture: str) -> set[int]:
        """Those of more than 100 pixels, as 0xRRGGBB."""
        pixels = np.asarray(Image.open(self.folder / picture).convert("RGB"), np.int64)
        found, counts = np.unique(pixels @ (1 << 16, 1 << 8, 1), return_counts=True)
        return set(found[counts > 100].tolist())


def test_the_published_figures_are_those_that_were_printed() -> None:
    sysu, regdb = (read_published(name).set_index("method") for name in ("sysu_mm01", "regdb"))
    figures = [name for name in sysu if name not in ("year", "venue", "source")]

    def printed(frame: pd.DataFrame, method: str) -> str:
        return " ".join(
            figure or "-" for figure in frame.drop(columns=["year", "venue", "source"]).loc[method]
        )

    assert (len(sysu), len(regdb)) == (24, 21)
    assert printed(sysu, "MSCLNet") == "76.99 97.63 99.18 71.64 78.49 99.32 99.91 81.17"
    assert printed(sysu, "AGW") == "47.50 84.39 92.14 47.65 54.17 91.14 95.98 62.97"
    assert printed(sysu, "HSME") == "20.68 32.74 77.95 23.12 - - - -"
    assert printed(sysu, "AGW*") == "59.82 - - 56.07 - - - -"
    assert printed(sysu, "CAJ") == "69.9 - - 66.9 76.3 - - 80.4"
    assert printed(sysu, "DEEN") == "74.7 - - 71.8 80.3 - - 83.3"
    assert printed(sysu, "MUN") == "76.24 - - 73.81 79.42 - - 82.06"
    assert printed(sysu, "MSCMNet") == "78.53 - - 74.20 83.00 - - 85.54"
    assert printed(regdb, "MSCLNet") == "84.17 80.99 83.86 78.31"
    assert printed(regdb, "MSR") == "48.43 48.67 - -"
    assert printed(regdb, "CAJ") == "85.0 79.1 84.8 77.8"
    assert printed(regdb, "DEEN") == "91.1 85.1 89.5 83.4"
    assert printed(regdb, "MUN") == "95.19 87.15 91.86 85.01"
    # The sums of the columns of the paper's tables 2 and 3: they change with any digit.
    for frame, source, sums in (
        (sysu, "MSCLNet, Table 2", [869.14, 1446.14, 1444.14, 861.36, 792.64, 1340.12, 1337.25, 899.53]),
        (regdb, "MSCLNet, Table 3", [1130.96, 1073.19, 794.51, 749.96]),
    ):
        assert set(map(int, frame["year"])) <= set(range(2017, 2026))
        assert all(frame["source"])
        numbers = frame.drop(columns=["year", "venue", "source"]).apply(pd.to_numeric, errors="coerce")
        assert ((numbers > 0) & (numbers < 100) | numbers.isna()).to_numpy().all()
        assert numbers[frame["source"] == source].sum().tolist() == pytest.approx(sums, abs=1e-6)
    for mode in ("all", "indoor"):
        ranks = sysu[[f"{mode}_rank{k}" for k in (1, 10, 20)]].apply(pd.to_numeric, errors="coerce")
        assert all(row.dropna().is_monotonic_increasing for _, row in ranks.iterrows())
    assert len(figures) == 8


def test_without_results_the_page_says_not_run_and_needs_no_other_file(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = Shown(root)
    assert "run `dvc repro`" in capsys.readouterr().out
    folder, text = found.folder, found.text
    html = (folder / "index.html").read_text()
    assert re.findall(r"!\[.+\]\((.+)\)", text) == ["sysu-mm01.png", "regdb.png"]
    sources = re.findall(r'(?:src|href)="([^"]+)"', html)
    assert len(sources) == 2
    for source, name in zip(sources, ("sysu-mm01.png", "regdb.png"), strict=True):
        png = (folder / name).read_bytes()
        assert source == f"data:image/png;base64,{base64.b64encode(png).decode()}"
        assert PAPERS in found.colours(name)
        assert OWN not in found.colours(name)  # ours was not run
    assert "http" not in text + re.sub(r"base64,[^\"]+", "", html)
    names = ["index.html", "regdb.png", "report.md", "sysu-mm01.png"]
    assert sorted(path.name for path in folder.iterdir()) == names

    assert "Nothing was evaluated in this folder: run `dvc repro`" in found.text
    assert found.ours("SYSU-MM01") == [["this project", "", "", *["not run"] * 8, ""]]
    assert found.ours("RegDB") == [["this project", "", "", *["not run"] * 4, ""]]
    assert text.count("\n|:---") == 2
    assert found.text.count("Ours: not run.") == 3  # LLCM, the synthetic data set and own images
    assert "69.78 / 65.29" in found.text


def test_synthetic_figures_stand_alone(root: Path) -> None:
    labels = {"mode": "all", "shots": 1, "sampler": "agw"}
    reports = [one("synthetic", 1, **labels), one("synthetic", 2, feature="random", **labels)]
    put(root, "results/metrics/report.json", reports)
    trained_by(root, "baseline")
    found = Shown(root)

    assert (
        "data set `synthetic`, preset baseline, seed 0, 7 epochs, MLflow experiment `a <b> & c`, run `slim-seed0`."
        in found.text
    )
    assert published.measured(reports).to_numpy().tolist() == [
        [
            "all-1shot-agw",
            *(shown(place, metric) for metric in METRICS),
            f"feature {feature}, gallery sampler agw, 10 trials, no mirror images, no re-ranking",
        ]
        for place, feature in ((1, "bnneck"), (2, "random"))
    ]
    assert all(shown(place, "mAP") in found.text for place in (1, 2))
    for heading in ("SYSU-MM01", "RegDB"):
        assert [set(row[3:-1]) for row in found.ours(heading)] == [{"not run"}]


def test_sysu_mm01_figures_are_next_to_the_published_ones(root: Path) -> None:
    def labelled(place: int, mode: str = "all", shots: int = 1, **labels: Any) -> dict[str, Any]:
        return one("sysu-mm01", place, mode=mode, shots=shots, **{"sampler": "agw", **labels})

    ranking = {"k1": 20, "k2": 6, "lambda": 0.3}
    reports = [
        labelled(1),
        labelled(2, "indoor"),
        labelled(3, feature="pooled", flip=True),  # was not run indoors
        labelled(4, re_ranking=ranking),
        labelled(5, shots=10),
        labelled(6, feature="random"),
    ]
    put(root, "results/metrics/report.json", reports)
    put(root, "results/download/report.json", {"differences": [{}, {}]})
    trained_by(root, "sysu-mm01", epochs=3)
    found = Shown(root)

    metrics = ("rank1", "rank10", "rank20", "mAP")
    setting = "parameters of no preset, seed 0"
    others = found.others.to_numpy().tolist()
    assert found.ours("SYSU-MM01") == [
        [
            *("this project, bnneck", "", ""),
            *(shown(place, metric) for place in (1, 2) for metric in metrics),
            f"{setting}, feature bnneck, gallery sampler agw, 10 trials, no mirror images, no re-ranking",
        ],
        [
            *("this project, pooled", "", ""),
            *(shown(3, metric) for metric in metrics),
            *["not run"] * 4,
            f"{setting}, feature pooled, gallery sampler agw, 10 trials, mirror images averaged, no re-ranking",
        ],
    ]
    assert [(row[0], row[1]) for row in others] == [
        ("all-1shot-agw-reranked", shown(4, "rank1")),
        ("all-10shot-agw", shown(5, "rank1")),
    ]
    assert others[0][-1].endswith("k-reciprocal re-ranking (k1 20, k2 6, lambda 0.3)")
    assert "differ from the published data set in 2 points" in found.text
    assert OWN in found.colours("sysu-mm01.png")


def test_regdb_figures_are_means_over_splits_or_say_that_they_are_not(root: Path) -> None:
    def split(number: int) -> dict[str, Any]:
        reports = [
            one("regdb", number + 10 * i, direction=direction, split=number, trials=1, re_ranking=re_ranking)
            for i, direction in enumerate(DIRECTIONS)
            for re_ranking in ({"k1": 1, "k2": 1, "lambda": 0.1}, False)
        ]
        return {
            "row": f"split-{number}",
            "seed": 0,
            "params": {
                "download.dataset": "regdb",
                "preprocess.regdb_split": number,
                "evaluate.feature": "bnneck",
            },
            "experiment": {"name": f"x-split{number}", "commit": "0" * 40},
            "data_differences": 4 * (number == 5),
            "reports": reports,
        }

    for name, numbers in (("regdb", range(1, 11)), ("regdb-epochs-3", (2, 5))):
        overrides = {"train.epochs": 3} if len(numbers) == 2 else {}
        records = [split(number) for number in numbers]
        write_summary(root, summarise(records, name, preset="regdb", overrides=overrides, failed={}))
    put(root, "results/metrics/report.json", split(4)["reports"])
    trained_by(root, "sysu-mm01")
    found = Shown(root)

    ours = found.ours("RegDB")
    ten, two = np.arange(1, 11), np.array([2, 5])
    for row, numbers in zip(ours, (ten, two), strict=False):
        means = [start + numbers.mean() + 0.004 for start in (0, 40, 10, 50)]
        assert row[3:7] == [f"{mean:.2f} ± {numbers.std(ddof=1):.2f}" for mean in means]
    measured = "feature bnneck, whole gallery, no mirror images, no re-ranking"
    differing = "on images that differ from the published ones in 4 points"
    assert ours[0][0] == "this project, regdb"
    assert ours[0][-1] == (f"mean ± sample deviation over ten splits, preset regdb, {differing}, {measured}")
    assert ours[1][-1] == (
        "mean ± sample deviation over only 2 of ten splits: 2, 5, preset regdb, with "
        f'`{{"train.epochs": 3}}`, {differing}, {measured}'
    )
    assert ours[2][0] == "this project, split 4 alone, bnneck"
    assert ours[2][3:7] == ["4.00", "44.00", "14.00", "54.00"]
    assert ours[2][-1] == f"no mean of ten splits, preset sysu-mm01, seed 0, {measured}"


@pytest.mark.parametrize(
    ("path", "text", "words"),
    [
        ("results/metrics/report.json", "[{", "dvc repro --force evaluate"),
        ("results/train/run.json", "", "dvc repro --force train"),
        ("results/regdb/regdb.json", "{", "msclnet grid regdb"),
        ("results/regdb/mine.json", "[]", "is no summary over RegDB's splits: move it"),
    ],
)
def test_a_damaged_file_is_named_with_the_remedy(root: Path, path: str, text: str, words: str) -> None:
    put(root, path, None)
    (root / path).write_text(text)
    with pytest.raises(UserError) as error:
        build.report(root)

    assert str(error.value).startswith(f"{path} is ")
    assert words in str(error.value)
    assert not (root / "results" / "report").exists()


def test_names_are_no_markup(tmp_path: Path) -> None:
    rows = [["x*y | <b>", "`1 < 2`", "3.00 ± 0.10"], ["this project, z", "", "4.00"]]
    frame = pd.DataFrame(rows, columns=["a", "<i>", "n"], index=["plain", OURS])
    text = build.markdown_table(frame)
    html = build.html(text, tmp_path)

    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1]] for row in text.splitlines()]
    assert cells[0] == ["a", "<i>", "n"]
    assert cells[2] == [r"x\*y \| <b>", "`1 < 2`", "3.00 ± 0.10"]
    assert cells[3] == ["**this project, z**", "", "**4.00**"]
    assert "<td>x*y | &lt;b&gt;</td>" in html.replace(' style="text-align:left"', "")
    assert "<code>1 &lt; 2</code>" in html
    assert 'style="text-align:right">3.00 <small>± 0.10</small></td>' in html
    assert '<tr class="ours">' in html


def test_a_report_without_mlflow_is_still_a_report(tmp_path, monkeypatch, capsys):
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "ablation.yaml").write_text("")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    build.log_report(tmp_path, mlflow_run=None)
    assert "not logged: MLFLOW_TRACKING_URI=http://127.0.0.1:1 cannot be used" in capsys.readouterr().err

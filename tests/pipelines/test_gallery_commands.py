"""The commands of a gallery, from the command line to what they print and leave, with a small network."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from model_specs import network_of, spec
from PIL import Image
from safetensors.torch import save_file
from small_galleries import photo, photos

from msclnet.embedding import load_embedder
from pipelines import cli
from pipelines.settings import QUIET, prepare_process

SPEC = spec(width=8)
HEIGHT, WIDTH = 64, 32
PATTERN = "{camera}_{time:%Y%m%dT%H%M%S}_*"


def save_model(folder: Path, seed: int) -> None:
    folder.mkdir(parents=True)
    state = network_of(SPEC, seed=seed).state_dict()
    save_file(
        {name: value.clone().contiguous() for name, value in state.items()}, folder / "model.safetensors"
    )
    (folder / "network.json").write_text(json.dumps(SPEC))
    (folder / "report.json").write_text(json.dumps({"height": HEIGHT, "width": WIDTH}))


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with two models, and a gallery of six images of a folder."""
    folder = tmp_path_factory.mktemp("template")
    save_model(folder / "results/train", seed=0)
    save_model(folder / "other", seed=1)
    photos(folder / "images")
    photo(folder / "night.png", 50, colour=False)
    photo(folder / "day.png", 51)
    return folder


@pytest.fixture
def project(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(template, tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    for name in ("MSCLNET_HOME", "DVC_ROOT", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {**QUIET, "MSCLNET_DEVICE": "cpu"}.items():
        monkeypatch.setenv(name, value)
    return tmp_path / "project"


def main(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    return int(ended.value.code or 0)


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict:
    capsys.readouterr()
    assert main("search", *arguments, "--json") == 0
    return json.loads(capsys.readouterr().out)


def feature(model: Path, path: Path, *, infrared: bool) -> np.ndarray:
    image = Image.open(path).resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
    embed = load_embedder(model / "model.safetensors", SPEC)
    vector = embed(np.asarray(image)[None], np.array([infrared]))[0].astype(np.float64)
    return vector / np.linalg.norm(vector)


@pytest.mark.parametrize(
    ("query", "infrared", "options", "kept"),
    [
        ("night.png", True, [], (0, 1, 3, 4)),
        ("day.png", False, [], (2, 5)),
        ("night.png", True, ["--modality", "any"], range(6)),
        ("night.png", True, ["--modality", "any", "--camera", "c1"], (1, 3, 5)),
        (
            "night.png",
            True,
            ["--camera", "c0", "c1", "--after", "2026-11-02", "--before", "2026-11-05"],
            (1, 3),
        ),
        ("night.png", True, ["--where", "path LIKE '%_4 %'"], (4,)),
        ("night.png", True, ["--after", "2027-01-01"], ()),
    ],
)
def test_a_search_ranks_by_the_networks_cosines(
    project: Path,
    capsys: pytest.CaptureFixture[str],
    query: str,
    infrared: bool,
    options: list[str],
    kept: tuple,
) -> None:
    assert main("gallery", "add", "yard", "images", "--pattern", PATTERN) == 0
    found = answer(capsys, "yard", query, *options)
    files = sorted(project.glob("images/*"), key=lambda path: path.stem.split("_")[2])
    cosines = {
        str(files[number]): float(
            feature(project / "results/train", Path(query), infrared=infrared)
            @ feature(project / "results/train", files[number], infrared=number % 3 == 2)
        )
        for number in kept
    }
    (asked,) = found["queries"]
    assert (asked["path"], asked["modality"]) == (query, "infrared" if infrared else "visible")
    assert [each["path"] for each in asked["matches"]] == sorted(cosines, key=lambda path: -cosines[path])
    for each in asked["matches"]:
        assert each["similarity"] == pytest.approx(cosines[each["path"]], abs=2e-3)


def test_the_life_of_a_gallery(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    add = ("gallery", "add", "yard", "images", "--pattern", PATTERN)
    (project / "images/torn.png").write_text("no image")
    assert main(*add) == 0
    output = capsys.readouterr()
    assert "6 images embedded" in output.out
    assert "1 refused" in output.out
    assert "images/torn.png" in output.err
    shutil.move("results/train", "results/moved")  # nothing new: no model is needed
    assert main(*add) == 0
    assert "6 unchanged" in capsys.readouterr().out
    shutil.move("results/moved", "results/train")
    assert main("gallery", "add", "yard", "images", "--model", "other") == 2
    assert "gallery rebuild" in capsys.readouterr().err

    assert main("search", "yard", "night.png", "--top", "3") == 0
    assert capsys.readouterr().out.count("images/c") == 3
    assert Path("results/search/ranking_1.png").stat().st_size > 1000

    assert main("gallery", "rebuild", "yard", "--model", "other") == 0
    assert "6 images embedded" in capsys.readouterr().out
    (best, *_) = answer(capsys, "yard", "night.png")["queries"][0]["matches"]
    expected = feature(Path("other"), Path("night.png"), infrared=True) @ feature(
        Path("other"), Path(best["path"]), infrared=False
    )
    assert best["similarity"] == pytest.approx(expected, abs=2e-3)
    assert main("gallery", "rebuild", "yard", "--model", "other") == 0
    assert "nothing to embed" in capsys.readouterr().out

    assert main("gallery", "remove", "yard", "--where", "camera = 'c1'") == 0
    assert main("gallery", "list") == 0
    assert main("gallery", "info", "yard") == 0
    output = capsys.readouterr().out
    for words in (
        "3 images removed",
        "yard: 3 images",
        "c0 3",
        "visible 2",
        f"{project}/other",
        "index: none",
    ):
        assert words in output
    assert main("gallery", "export", "yard", "yard.parquet") == 0
    exported = pq.read_table("yard.parquet")
    assert exported.num_rows == 3
    assert {Path(path).name[:2] for path in exported["path"].to_pylist()} == {"c0"}
    assert np.array(exported["vector"].to_pylist()).shape == (3, 64)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["gallery", "info", "nowhere"], ["galleries/nowhere", "no such gallery", "gallery add"]),
        (["gallery", "add", "yard", "nowhere"], ["nowhere: no such folder"]),
        (["gallery", "add", "yard", "results"], ["results: no image to add"]),
        (["gallery", "add", "yard", "images", "--pattern", "*.png"], ["--pattern *.png", "names no column"]),
        (["gallery", "add", "yard", "images", "--table", "t.csv"], ["--table t.csv: no such file"]),
        (["gallery", "add", "yard", "images", "--on", "dask"], ["--on dask", "ray://"]),
        (["gallery", "add", "yard", "images", "--model", "elsewhere"], ["elsewhere/network.json"]),
        (
            ["search", "images", "night.png", "--camera", "c1"],
            ["images is no gallery", "--camera", "gallery add"],
        ),
        (["search", "images", "night.png", "--modality", "any"], ["--modality any"]),
        (["search", "nowhere", "night.png"], ["nowhere: no such gallery or folder", "gallery list"]),
    ],
)
def test_mistakes_are_named_and_leave_no_gallery(
    project: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: list[str]
) -> None:
    assert main(*arguments) == 2
    errors = capsys.readouterr().err
    assert [word for word in words if word not in errors] == []
    assert not Path("galleries").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["night.png", "--after", "monday"], ["--after", "monday", "2026-11-01"]),
        (["night.png", "--where", "floor = 1"], ["--where floor = 1", "camera"]),
        (["night.png", "--top", "0"], ["--top 0", "1000"]),
        (["results/train/network.json"], ["network.json", "not readable as an image"]),
    ],
)
def test_mistakes_of_a_search_are_named(
    project: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: list[str]
) -> None:
    main("gallery", "add", "yard", "images")
    assert main("search", "yard", *options) == 2
    errors = capsys.readouterr().err
    assert [word for word in words if word not in errors] == []


@pytest.mark.full_size
def test_the_flow_adds_a_folder_and_rebuilds(project: Path) -> None:
    from prefect.testing.utilities import prefect_test_harness

    from pipelines.flows import gallery

    prepare_process()  # no proxy for the server
    with prefect_test_harness(server_startup_timeout=300):
        added = gallery(name="yard", folder="images", pattern=PATTERN)
        assert added == {"added": 6, "described": 0, "unchanged": 0, "refused": 0}
        assert gallery(name="yard", folder="images")["unchanged"] == 6
        rebuilt = gallery(name="yard", model="other")
        assert (rebuilt["images"], rebuilt["from crops"], rebuilt["queries"]) == (6, 0, 6)
        assert 0 <= rebuilt["other_first"] <= 1
        failed = gallery(name="nowhere", return_state=True)
        assert failed.is_failed()
        assert "galleries/nowhere" in str(failed.message)

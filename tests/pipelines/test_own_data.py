"""From a folder of a user's labelled images to a trained and evaluated model, stage by stage."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from own_people import write_people
from PIL import Image
from ruamel.yaml import YAML
from smoke_project import Project, copy_project
from test_docs import blocks, commands

from msclnet.images.table import read_splits
from pipelines.stages.presets import apply_preset

STAGES = ("download", "preprocess", "train", "embed", "evaluate")  # the figures are drawn in other tests
SMALL = {
    "preprocess": {"height": 96, "width": 48},
    "augment": {"padding": 4},
    "model": {"width": 8, "reduction": 1},
    "train": {"epochs": 2, "validate_every": 1, "precision": "fp32"},
    "embed": {"precision": "fp32"},
}


def own_project(target: Path, people: Path, **download: Any) -> Project:
    """A project with the preset own-data at a small size, linked to a folder of people."""
    project = copy_project(target)
    apply_preset(project.root, "own-data")
    change(project, download={"folder": download} if download else {}, **SMALL)
    (project.root / "data/source/own").symlink_to(people)
    return project


def change(project: Project, **sections: dict[str, Any]) -> None:
    """Set values of params.yaml."""
    path, yaml = project.root / "params.yaml", YAML()
    params = yaml.load(path.read_text())
    for name, values in sections.items():
        for key, value in values.items():
            former = params[name][key]
            params[name][key] = {**former, **value} if isinstance(value, dict) else value
    with path.open("w") as file:
        yaml.dump(params, file)


def stage(project: Project, name: str, *, ok: bool = True) -> str:
    """Run a stage in this process; what it printed."""
    done = project.run("python", "-m", f"pipelines.stages.{name}", ok=ok, MSCLNET_WORKERS="1")
    return done.stdout + done.stderr


def report_of(project: Project, name: str) -> Any:
    return json.loads((project.root / f"results/{name}/report.json").read_text())


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("people") / "Bilder von uns"
    write_people(folder, [f"Jörg Weiß {n}" for n in range(20)], scale=3)
    return folder


def run_the_page(project: Project, places: dict[str, Path]) -> dict[str, str]:
    """Run the commands of docs/your-own-data.md in their order, but the server; what each printed.

    Between `msclnet preset` and the others, the parameters become those of a small run.
    """
    printed = {}
    for block in blocks("docs/your-own-data.md"):
        for words in commands(block.text) if block.language == "" else ():
            given = [str(places.get(word, word)) for word in words]
            match given:
                case ["dvc", "repro"]:
                    printed |= {name: stage(project, name) for name in STAGES}
                case ["msclnet", "serve", _]:
                    continue
                case ["msclnet", *rest]:
                    done = project.run("python", "-m", "pipelines", *rest, MSCLNET_WORKERS="1")
                    printed[rest[0]] = done.stdout + done.stderr
                case _:
                    project.run(*given)
            if given[1] == "preset":
                change(project, **SMALL)
    return printed


def test_twenty_people_by_the_commands_of_the_page(
    people: Path, tmp_path: Path, empty_database: Path
) -> None:
    project = copy_project(tmp_path / "project", empty_database)
    query = people / "infrared" / "Jörg Weiß 3" / "cam3" / "00.jpg"
    printed = run_the_page(
        project,
        {
            "/path/to/people": people,
            "/path/to/images": people / "visible",
            "/path/to/query.jpg": query,
        },
    )
    assert "data/source/own is missing" in printed["preset"]
    assert printed["search"].count("/visible/Jörg Weiß ") == 5  # of 80 images
    assert "champion" in printed["promote"]
    assert (project.root / "people.zip").stat().st_size > 100_000

    assert sum(report_of(project, "preprocess")["images"].values()) == 160
    splits = read_splits(project.root / "data/processed/manifest.csv")
    found = {split: set(rows.identities.tolist()) for split, rows in splits.items()}
    assert {split: len(identities) for split, identities in found.items()} == {
        "train": 12,
        "val": 3,
        "test": 5,
    }
    assert set.union(*found.values()) == set(range(20))  # the number in each name
    assert {int(c) for rows in splits.values() for c in rows.cameras} == {1, 3, 4, 6}

    reports = [r for r in report_of(project, "metrics") if r["feature"] == "bnneck"]
    # 5 people, 4 images of each modality, two cameras: 20 against 20, and 20 against one of each person and camera.
    assert [(r["direction"], r["shots"], r["trials"], r["queries"], r["gallery"]) for r in reports] == [
        ("visible-to-infrared", None, 1, 20, 20),
        ("infrared-to-visible", None, 1, 20, 20),
        ("visible-to-infrared", 1, 10, 20, 10),
        ("infrared-to-visible", 1, 10, 20, 10),
    ]
    summary = json.loads((project.root / "results/metrics/summary.json").read_text())
    assert "val_score" in summary


def test_a_table_and_images_that_cannot_be_used(people: Path, tmp_path: Path) -> None:
    """Every kind of file at once; a person with one modality; a broken image."""
    folder = tmp_path / "own"
    lines = ["path;identity;modality;camera;split"]
    for number, split in enumerate(["train"] * 8 + ["val"] * 2 + ["test"] * 2):
        for modality, camera in (("visible", "cam1"), ("infrared", "cam3")):
            source = people / modality / f"Jörg Weiß {number}" / camera / "00.jpg"
            ending = ("jpg", "png", "bmp", "webp", "tiff", "gif")[number % 6]
            target = folder / "alle" / f"{modality} {number}.{ending}"
            target.parent.mkdir(parents=True, exist_ok=True)
            with Image.open(source) as image:
                image.save(target)
            lines.append(f"alle/{target.name};{number};{modality};;{split}")
    shutil.copy(folder / "alle/visible 1.png", folder / "alone.png")
    with Image.open(
        folder / "alle/visible 11.gif"
    ) as image:  # a test image, smaller and as a JPEG, in training
        image.convert("RGB").resize((image.width // 2, image.height // 2)).save(folder / "leak.jpg")
    (folder / "broken.png").write_bytes(b"\x89PNG")
    lines += ["alone.png;99;infrared;;train", "broken.png;1;visible;;train", "leak.jpg;2;visible;;train"]
    (folder / "people.csv").write_text("\n".join(lines))
    project = own_project(tmp_path / "project", folder, table="people.csv")
    stage(project, "download")
    printed = stage(project, "preprocess", ok=False)
    assert "error: 1 picture is in several splits" in printed
    assert "train: leak.jpg and test: alle/visible 11.gif" in printed
    page = (project.root / "results/preprocess/report.html").read_text()
    assert "train: leak.jpg, test: alle/visible 11.gif" in page

    change(project, preprocess={"leaks": "warn"})
    printed = stage(project, "preprocess")
    assert "warning: 1 picture is in several splits" in printed
    found = report_of(project, "preprocess")
    assert found["images"] == {"train": 18, "val": 4, "test": 4}
    assert found["same_picture"] == {
        "in several splits": 1,
        "under several identities": 1,  # person 1's image under the name of 99
        "of one identity": 0,
    }
    assert [each["path"] for each in found["unreadable"]] == ["broken.png"]
    assert found["one_modality_only"] == [99]
    assert "99" in printed

    change(project, preprocess={"validation": "none"}, train={"keep": "last"})
    stage(project, "preprocess")
    assert report_of(project, "preprocess")["images"] == {"train": 22, "val": 0, "test": 4}


def test_too_few_people_are_an_error(people: Path, tmp_path: Path) -> None:
    """Fewer than a batch holds are the sampler's error; fewer than can be split are this stage's."""
    folder = tmp_path / "few"
    for modality in ("visible", "infrared"):
        for person in sorted((people / modality).iterdir())[:3]:
            shutil.copytree(person, folder / modality / person.name)
    project = own_project(tmp_path / "project", folder)
    stage(project, "download")
    printed = stage(project, "preprocess", ok=False)
    assert printed.count("error: ") == 1
    assert "3 identities have images of both modalities" in printed
    assert "preprocess.folder_split" in printed


def test_a_missing_link_is_named(people: Path, tmp_path: Path) -> None:
    project = own_project(tmp_path / "project", people / "gone")
    printed = stage(project, "download", ok=False)
    assert "data/source/own is a link to" in printed
    assert "docs/your-own-data.md" in printed

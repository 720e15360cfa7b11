"""The stages `download` and `preprocess` in process: what is missing or wrong is reported before anything is made."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from replicas import write_sysu_mm01
from ruamel.yaml import YAML
from scipy.io import savemat

from msclnet.datasets.records import Record, Split
from msclnet.errors import UserError
from msclnet.images.table import read_manifest
from pipelines.stages.config import Params, check_params
from pipelines.stages.download import download
from pipelines.stages.paths import RAW, check_permutations, link_raw_data
from pipelines.stages.preprocess import check_use, preprocess, report_unpaired

ROOT = Path(__file__).resolve().parents[2]
Seen = dict[tuple[Split, int], tuple[int, ...]]  # (split, identity) -> the cameras that saw it
OFFICIAL: dict[str, Any] = {"samplers": ["official"], "permutations": "data/permutations/rand_perm_cam.mat"}


def write_permutations(path: Path) -> None:
    """Ten trials of four images for two identities and one camera."""
    rng = np.random.default_rng(0)
    identities = np.empty((2, 1), dtype=object)
    cameras = np.empty((1, 1), dtype=object)
    for i in range(2):
        identities[i, 0] = np.array([rng.permutation(4) + 1 for _ in range(10)])
    cameras[0, 0] = identities
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, {"rand_perm_cam": cameras})


def params_of(dataset: str, **evaluate: Any) -> Params:
    values = YAML(typ="safe", pure=True).load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    source = "msclnet/synthetic" if dataset == "synthetic" else f"data/source/{dataset}"
    values["download"] |= {"dataset": dataset, "source": source, "differences": "warn"}
    values["evaluate"] |= evaluate
    return check_params(values, source=dataset)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project whose link leads to a small copy of SYSU-MM01."""
    write_sysu_mm01(tmp_path / "given", train=2, val=1, test=3)
    folder = tmp_path / "project"
    (folder / "data/source").mkdir(parents=True)
    (folder / "data/source/sysu-mm01").symlink_to(tmp_path / "given")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MSCLNET_HOME", str(folder))
    monkeypatch.setenv("MSCLNET_WORKERS", "1")
    return folder


def test_official_galleries_need_their_file_before_anything_is_read(project: Path) -> None:
    params = params_of("sysu-mm01", **OFFICIAL)
    place = project / OFFICIAL["permutations"]
    for check in (download, check_permutations):  # the second also stands before a training
        with pytest.raises(UserError, match=r"evaluate\.permutations: .*rand_perm_cam\.mat: no such file"):
            check(params)
    place.parent.mkdir()
    place.write_bytes(b"<html>not found</html>" * 20)
    with pytest.raises(UserError, match=r"rand_perm_cam\.mat is not SYSU-MM01's rand_perm_cam\.mat"):
        download(params)
    assert not RAW.exists()
    write_permutations(place)
    download(params)
    assert RAW.exists()


def test_other_samplers_and_data_sets_need_no_such_file(project: Path) -> None:
    check_permutations(params_of("sysu-mm01", samplers=["agw"], permutations=OFFICIAL["permutations"]))
    check_permutations(params_of("llcm", **OFFICIAL))
    stages = YAML(typ="safe", pure=True).load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))["stages"]
    assert [name for name, stage in stages.items() if "data/permutations" in stage["deps"]] == ["evaluate"]


def test_data_on_another_disk_is_reported_before_the_work(project: Path, tmp_path: Path) -> None:
    """DVC keeps no output outside of the repository, and says so after the stage has run."""
    (project / "data").rename(tmp_path / "disk")
    (project / "data").symlink_to(tmp_path / "disk")
    with pytest.raises(
        UserError, match=rf"data leads to {tmp_path}/disk, outside of the project.*dvc cache dir"
    ):
        download(params_of("sysu-mm01"))
    assert not RAW.exists()


def test_a_copy_of_the_project_sees_the_links(project: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    for folder in (project, copy):
        (folder / "data/source").mkdir(parents=True, exist_ok=True)
        (folder / "data/source/README.md").write_text("tracked")
    (copy / "data/source/llcm").symlink_to("/from/an/earlier/run")
    write_permutations(project / OFFICIAL["permutations"])
    for _ in range(2):
        link_raw_data(project, copy)
        links = {
            path.relative_to(copy).as_posix(): path.resolve() for path in copy.rglob("*") if path.is_symlink()
        }
        assert links == {
            "data/source/sysu-mm01": tmp_path / "given",
            OFFICIAL["permutations"]: project / OFFICIAL["permutations"],
        }


def seen_by(cells: Seen) -> list[Record]:
    """Records in SYSU-MM01's layout."""
    return [
        Record(
            f"cam{camera}/{identity}.jpg",
            identity,
            camera,
            "infrared" if camera in (3, 6) else "visible",
            split,
        )
        for (split, identity), cameras in cells.items()
        for camera in cameras
    ]


ALL = (1, 2, 3, 4, 5, 6)
SOUND: Seen = {
    ("train", 1): ALL,
    ("train", 2): (1, 6),
    ("val", 3): ALL,
    ("test", 4): ALL,
}


@pytest.mark.parametrize(
    ("change", "dataset", "words"),
    [
        (
            {("val", 3): ()},
            "sysu-mm01",
            ("no image of the val identities", "preprocess.validation to 'none'"),
        ),
        ({("test", 4): ()}, "sysu-mm01", ("no image of the test identities",)),
        ({("train", 1): (1, 2), ("train", 2): (3, 6)}, "sysu-mm01", ("1 have visible", "1 infrared")),
        ({("val", 3): (1, 2)}, "sysu-mm01", ("validation identities", "preprocess.validation to 'none'")),
        ({("val", 3): (2, 3)}, "sysu-mm01", ("validation identities", "own room")),
        ({("test", 4): (2, 3)}, "sysu-mm01", ("test identities", "mode all", "own room")),
        (
            {("test", 4): (4, 5, 6)},
            "sysu-mm01",
            ("test identities", "mode indoor", "evaluate.modes to ['all']"),
        ),
        ({("test", 4): (1, 2), ("test", 5): (3, 6)}, "sysu-mm01", ("test identities", "both modalities")),
        ({("test", 4): (1, 2)}, "regdb", ("no visible image of the test identities",)),
    ],
)
def test_images_that_cannot_be_used_are_reported_with_the_remedy_that_applies(
    change: Seen, dataset: str, words: tuple[str, ...]
) -> None:
    check_use(seen_by(SOUND), params_of(dataset))
    with pytest.raises(UserError) as caught:
        check_use(seen_by(SOUND | change), params_of(dataset))
    assert [word for word in words if word not in str(caught.value)] == []


def test_identities_with_one_modality_are_one_warning(capsys: pytest.CaptureFixture[str]) -> None:
    one_sided: Seen = {("test", 4): (1,)}
    assert report_unpaired(seen_by(SOUND | one_sided), {}) == []
    assert capsys.readouterr().err == ""
    lonely: Seen = {("train", 10 + i): (1, 2) if i % 2 else (3,) for i in range(7)}
    assert report_unpaired(seen_by(SOUND | lonely), {}) == list(range(10, 17))
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: 7 of 10 ")
    assert line.endswith("10, 11, 12, 13, 14 and 2 more")


def test_a_thermal_camera_of_14_bits(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The range that it uses is kept and recorded; of the range that a file can hold it is a seventieth."""
    for file in sorted((tmp_path / "given").rglob("cam[36]/*/*.jpg")):
        gray = np.asarray(Image.open(file).convert("L"), float)
        Image.fromarray((51_241 + gray * 940 / 255).astype(np.uint16)).save(file.with_suffix(".png"))
        file.unlink()
    params = params_of("sysu-mm01")
    download(params)
    preprocess(params)
    report = json.loads(Path("results/preprocess/report.json").read_text())
    assert sorted(report["ranges"]) == ["3", "6"]
    warned = capsys.readouterr().err
    for camera, found in report["ranges"].items():
        assert 51_241 <= found["low"] < found["high"] <= 52_181
        assert f"camera {camera}: {found['images']} images" in warned
    rows = read_manifest(Path("data/processed/manifest.csv"), "train")
    infrared = np.load("data/processed/images_train.npy")[rows.infrared]
    assert infrared.max() - infrared.min() > 150  # the upper bytes of all of them span 4 values
    assert json.loads(Path("results/download/report.json").read_text())["root"] == ""

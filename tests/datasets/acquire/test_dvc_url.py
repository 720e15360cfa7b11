"""Archives that DVC fetches: by the real program, from a remote on this disk."""

import hashlib
from pathlib import Path

import pytest
from same_files import FILES, as_tar, contents, wanted

from msclnet.datasets.acquire.pack import pack
from msclnet.datasets.acquire.place import read_place
from msclnet.errors import UserError


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The remote's folder; the working folder is a DVC project that calls it `mine`."""
    store, project = tmp_path / "store", tmp_path / "project"
    (store / "deep").mkdir(parents=True)
    (project / ".dvc").mkdir(parents=True)
    (project / ".dvc" / "config").write_text(
        f"[core]\n    no_scm = true\n    analytics = false\n['remote \"mine\"']\n    url = {store}\n"
    )
    monkeypatch.chdir(project)
    monkeypatch.setenv("DVC_NO_ANALYTICS", "true")
    return store


def test_a_dvc_remote(remote: Path, tmp_path: Path) -> None:
    archive = as_tar(remote / "deep" / "data.tar.gz", FILES, kind="tar.gz")
    sha256 = hashlib.sha256(archive.read_bytes()).hexdigest()
    place = read_place("remote://mine/deep/data.tar.gz", sha256=sha256)
    packed, work = tmp_path / "images.zip", tmp_path / "work"
    assert pack(place, packed, wanted=wanted, workspace=work) == len(FILES)
    assert contents(packed) == FILES
    assert [path.name for path in work.iterdir()] == [f"{sha256[:16]}-data.tar.gz"]
    archive.unlink()  # a second call needs no remote
    assert pack(place, packed, wanted=wanted, workspace=work) == len(FILES)


def test_another_content_than_declared(remote: Path, tmp_path: Path) -> None:
    archive = as_tar(remote / "data.tar", FILES)
    found = hashlib.sha256(archive.read_bytes()).hexdigest()
    place = read_place("remote://mine/data.tar", sha256="0" * 64)
    with pytest.raises(UserError, match=f"remote://mine/data.tar: .*{found}, expected was {'0' * 64}"):
        pack(place, tmp_path / "images.zip", wanted=wanted, workspace=tmp_path / "work")
    assert list((tmp_path / "work").iterdir()) == []
    assert not (tmp_path / "images.zip").exists()


def test_a_folder_of_the_remote(remote: Path, tmp_path: Path) -> None:
    as_tar(remote / "deep" / "data.tar", FILES)
    with pytest.raises(UserError, match="remote://mine/deep is a folder; give the address of one archive"):
        pack(
            read_place("remote://mine/deep", sha256="0" * 64),
            tmp_path / "images.zip",
            wanted=wanted,
            workspace=tmp_path / "work",
        )
    assert list((tmp_path / "work").iterdir()) == []


def test_nothing_there(remote: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    place = read_place("remote://mine/missing.zip", sha256="0" * 64)
    with pytest.raises(UserError, match=r"remote://mine/missing\.zip: `dvc get-url` ended with code"):
        pack(place, tmp_path / "images.zip", wanted=wanted, workspace=tmp_path / "work")
    assert "does not exist" in capfd.readouterr().err
    assert list((tmp_path / "work").iterdir()) == []

"""A folder, a zip and a tar archive look alike, and are packed into the same bytes; what cannot be read is named."""

import hashlib
import io
import os
import random
import stat
import tarfile
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from msclnet.datasets import archive, packing
from msclnet.datasets.archive import FolderSource, TarSource, ZipSource, open_source, own_name, walk
from msclnet.datasets.packing import pack
from msclnet.errors import UserError

FILES: dict[str, bytes] = {
    "cam1/0001/0001.jpg": random.Random(1).randbytes(3000),
    "cam1/0001/0002.jpg": b"",
    "cam3/0001/0001.JPG": random.Random(2).randbytes(70_000),
    "cam10/0002/0001.jpg": bytes(5000),
    "exp/train_id.txt": b"1,2,3\r\n",
    "exp/Übersicht.txt": b"Personen\n",
}
UNWANTED: dict[str, bytes] = {"read me.pdf": b"%PDF", "cam1/Thumbs.db": b"thumbs", "demo.avi": bytes(10_000)}
EVERYTHING = FILES | UNWANTED
TAR_MODES: dict[str, Any] = {"tar": "w", "tar.gz": "w:gz", "tar.xz": "w:xz", "tar.bz2": "w:bz2"}


def wanted(name: str) -> bool:
    return name.lower().endswith((".jpg", ".txt"))


def as_folder(root: Path, files: Mapping[str, bytes]) -> Path:
    root.mkdir(exist_ok=True)
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def as_zip(path: Path, files: Mapping[str, bytes], *, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as opened:
        opened.mkdir("empty folder")
        for i, name in enumerate(reversed(list(files))):
            opened.writestr(zipfile.ZipInfo(name, (2017, 10, 1 + i, 1, 2, 4)), files[name], method)
    return path


def as_tar(path: Path, files: Mapping[str, bytes], *, kind: str = "tar", prefix: str = "") -> Path:
    with tarfile.open(path, TAR_MODES[kind]) as opened:
        folder = tarfile.TarInfo("empty folder")
        folder.type = tarfile.DIRTYPE
        opened.addfile(folder)
        for i, name in enumerate(sorted(files, key=lambda name: name[::-1])):
            add(opened, prefix + name, files[name], mtime=1_500_000_000 + i)
    return path


def add(opened: tarfile.TarFile, name: str, content: bytes, *, mtime: int = 0) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mtime = len(content), mtime
    opened.addfile(member, io.BytesIO(content))


MAKERS = (as_folder, as_zip, as_tar)


def contents(packed: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(packed) as opened:
        assert opened.testzip() is None
        return {info.filename: opened.read(info) for info in opened.infolist()}


def packed(source: Path, **options: Any) -> dict[str, bytes]:
    """What pack makes of a source; whatever happens, its folder holds nothing else afterwards."""
    raw = source.parent / "raw"
    target = raw / "images.zip"
    given: dict[str, Any] = {"wanted": wanted, **options}
    try:
        pack(source, target, **given)
        return contents(target)
    finally:
        assert [path.name for path in raw.iterdir()] in ([], ["images.zip"])
        target.unlink(missing_ok=True)


def test_every_form_gives_the_same_sorted_and_stored_bytes(tmp_path: Path) -> None:
    forms = [
        as_folder(tmp_path / "folder", EVERYTHING),
        as_zip(tmp_path / "stored.zip", EVERYTHING, method=zipfile.ZIP_STORED),
        as_zip(tmp_path / "deflated", EVERYTHING),  # the content decides, not the name
        as_zip(tmp_path / "lzma.zip", EVERYTHING, method=zipfile.ZIP_LZMA),
        as_tar(tmp_path / "dot.tar", EVERYTHING, prefix="./"),
        *(as_tar(tmp_path / f"all.{kind}", EVERYTHING, kind=kind) for kind in TAR_MODES),
    ]
    digests = set()
    for source in forms:
        target = tmp_path / "deep/er/images.zip"
        assert pack(source, target, wanted=wanted) == len(FILES)
        assert contents(target) == FILES, source
        digests.add(hashlib.sha256(target.read_bytes()).hexdigest())
        assert [path.name for path in target.parent.iterdir()] == ["images.zip"]
    assert len(digests) == 1
    with zipfile.ZipFile(target) as opened:
        members = opened.infolist()
    assert [member.filename for member in members] == sorted(FILES)
    assert {(m.compress_type, m.date_time) for m in members} == {(zipfile.ZIP_STORED, (1980, 1, 1, 0, 0, 0))}


def test_the_packed_bytes_are_these(tmp_path: Path) -> None:
    """Those of earlier releases: a data set that was packed before stays known by its digest."""
    files = {"cam1/0001/0001.jpg": bytes(range(256)), "exp/train_id.txt": b"1\n"}
    pack(as_folder(tmp_path / "folder", files), tmp_path / "a.zip", wanted=wanted)
    expected = "a93f50ba1c4068c0ed0f131c09f36b62b2b956bc995caa32682348f49dc75fe1"
    assert hashlib.sha256((tmp_path / "a.zip").read_bytes()).hexdigest() == expected


@pytest.mark.parametrize("make", MAKERS)
def test_sources_are_alike(tmp_path: Path, make: Any) -> None:
    source = open_source(make(tmp_path / "source", EVERYTHING))
    assert type(source) is {as_folder: FolderSource, as_zip: ZipSource, as_tar: TarSource}[make]
    assert source.names() == sorted(EVERYTHING)
    assert {name: source.read(name) for name in source.names()} == EVERYTHING


def test_a_former_result_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    """DVC links its cache to the workspace: what is behind a hard link must not be written to."""
    cache, target = tmp_path / "cached", tmp_path / "images.zip"
    cache.write_bytes(b"in the cache")
    os.link(cache, target)
    folder = as_folder(tmp_path / "folder", FILES | {"cam9/broken.jpg": b""})
    (folder / "cam9/broken.jpg").unlink()
    (folder / "cam9/broken.jpg").symlink_to("/not/mounted")
    with pytest.raises(
        UserError, match=r"folder: cam9/broken\.jpg cannot be read \(No such file or directory\)"
    ):
        pack(folder, target, wanted=wanted)
    assert target.read_bytes() == b"in the cache"
    (folder / "cam9/broken.jpg").unlink()
    (tmp_path / ".partial-images.zip").write_bytes(bytes(1_000_000))  # left by a killed process
    pack(folder, target, wanted=wanted)
    assert (cache.read_bytes(), contents(target)) == (b"in the cache", FILES)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cached", "folder", "images.zip"]


def test_links_in_a_folder_are_followed_and_end(tmp_path: Path) -> None:
    disk = as_folder(tmp_path / "disk", FILES)
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("cam1", "cam3", "cam10", "exp"):
        (folder / name).symlink_to(disk / name)
    (disk / "cam1/loop").symlink_to(folder)
    (folder / "dangling.pdf").symlink_to("/nowhere")
    os.mkfifo(folder / "pipe")
    found = packed(folder)
    assert found == FILES
    os.mkfifo(folder / "pipe.jpg")
    with pytest.raises(UserError, match=r"pipe\.jpg cannot be read \(no plain file\)"):
        packed(folder)


def test_bounds_on_count_and_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten folders, each with two links to the next one: 512 ways to one file, and no loop."""
    for i in range(10):
        (tmp_path / str(i)).mkdir()
    for i in range(9):
        for name in ("left", "right"):
            (tmp_path / str(i) / name).symlink_to(tmp_path / str(i + 1))
    (tmp_path / "9" / "file").write_bytes(b"")
    assert len(list(walk(tmp_path / "0"))) == 2**9
    monkeypatch.setattr(archive, "MOST_FILES", 500)
    with pytest.raises(UserError, match="more than 500 files and folders"):
        list(walk(tmp_path / "0"))
    for make in MAKERS:
        source = make(tmp_path / make.__name__, FILES)
        monkeypatch.setattr(archive, "MOST_FILES", 20)
        monkeypatch.setattr(packing, "MOST_BYTES", sum(map(len, FILES.values())))
        monkeypatch.setattr(archive, "MOST_FILE_BYTES", 70_000)
        assert packed(source) == FILES
        monkeypatch.setattr(packing, "MOST_BYTES", sum(map(len, FILES.values())) - 1)
        with pytest.raises(UserError, match="link the data set alone"):
            packed(source)
        monkeypatch.setattr(archive, "MOST_FILE_BYTES", 69_999)
        with pytest.raises(UserError, match=r"cam3/0001/0001\.JPG cannot be read \(more than 69999 bytes"):
            packed(source)
        monkeypatch.setattr(archive, "MOST_FILES", 5)
        with pytest.raises(UserError, match="more than 5 files"):
            packed(source)


@pytest.mark.parametrize("make", MAKERS)
def test_nothing_wanted(tmp_path: Path, make: Any) -> None:
    source = make(tmp_path / "outer", {"SYSU-MM01.zip": b"PK", "deep/notes.RAR": b"Rar!", "a.pdf": b"%PDF"})
    with pytest.raises(UserError) as caught:
        packed(source, expected="cam1 and exp")
    parts = (str(source), "3 other files", "expected are cam1 and exp", "SYSU-MM01.zip", "deep/notes.RAR")
    assert [part for part in parts if part not in str(caught.value)] == []


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not a folder, a zip or a tar archive"),
        (b"Rar!\x1a\x07\x01\0" + bytes(600), "unpack other kinds"),
        (b"<html>404</html>" * 100, "not a folder, a zip or a tar archive"),
        (b"\x1f\x8b" + bytes(100), "tar archive, or is damaged"),
    ],
)
def test_what_is_no_archive(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "given").write_bytes(data)
    with pytest.raises(UserError, match=rf"given .*{words}"):
        open_source(tmp_path / "given")
    with pytest.raises(UserError, match="missing: no such file or folder"):
        open_source(tmp_path / "missing")


@pytest.mark.parametrize("kind", ["zip", *TAR_MODES])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_archives_that_are_cut(tmp_path: Path, kind: str, share: float) -> None:
    source = as_zip(tmp_path / "a", FILES) if kind == "zip" else as_tar(tmp_path / "a", FILES, kind=kind)
    source.write_bytes(source.read_bytes()[: int(share * source.stat().st_size)])
    with pytest.raises(UserError, match=r"a is .*(damaged|incomplete)"):
        packed(source)


def test_a_flipped_bit_encryption_and_links_inside_of_archives(tmp_path: Path) -> None:
    source = as_zip(tmp_path / "a.zip", FILES, method=zipfile.ZIP_STORED)
    whole = source.read_bytes()
    source.write_bytes(whole.replace(FILES["cam1/0001/0001.jpg"][:8], bytes(8)))
    with pytest.raises(UserError, match=r"cam1/0001/0001\.jpg cannot be read \(damaged in the archive"):
        packed(source)
    entry = whole.rindex(b"PK\1\2", 0, whole.index(b"cam1/0001/0001.jpg", whole.index(b"PK\1\2")))
    source.write_bytes(whole[: entry + 8] + b"\1" + whole[entry + 9 :])  # the flag
    with pytest.raises(UserError, match=r"encrypted.*with its password and link the folder"):
        packed(source)
    with tarfile.open(tmp_path / "link.tar", "w") as opened:
        link = tarfile.TarInfo("cam1/link.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        opened.addfile(link)
    with zipfile.ZipFile(tmp_path / "link.zip", "w") as opened:
        member = zipfile.ZipInfo("cam1/link.jpg")
        member.external_attr = (stat.S_IFLNK | 0o777) << 16
        opened.writestr(member, "/etc/passwd")
    for kind in ("tar", "zip"):
        with pytest.raises(UserError, match=r"cam1/link\.jpg .*a link inside of .*link the folder"):
            packed(tmp_path / f"link.{kind}")


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        ("./cam1//a b.jpg", "cam1/a b.jpg"),
        ("cam1\\0002\\c.jpg", "cam1/0002/c.jpg"),
        ("cam1/..dots...jpg", "cam1/..dots...jpg"),
        ("cam1/人.jpg", "cam1/人.jpg"),
        ("/etc/../../cam1/0001.jpg", "etc/cam1/0001.jpg"),
        ("cam1/\x1b[2J\n.jpg", "cam1/%1B[2J%0A.jpg"),
        (b"\xca\xfd\xbe\xdd/cam1/1.jpg".decode("utf-8", "surrogateescape"), "%CA%FD%BE%DD/cam1/1.jpg"),
    ],
)
def test_names_are_our_own(tmp_path: Path, raw: str, name: str) -> None:
    assert own_name(raw) == name
    assert packed(as_tar(tmp_path / "a.tar", {raw: b"1"})) == {name: b"1"}
    if raw.isascii() and raw.isprintable():
        assert packed(as_zip(tmp_path / "a.zip", {raw: b"1"})) == {name: b"1"}
    if ".." not in raw.split("/"):
        path = os.fsencode(tmp_path / "folder") + b"/" + os.fsencode(raw)
        os.makedirs(os.path.dirname(path))
        with open(path, "wb") as file:
            file.write(b"1")
        assert packed(tmp_path / "folder") == {name: b"1"}


def test_a_name_that_is_there_twice(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "twice.tar.gz", "w:gz") as opened:
        add(opened, "cam1/0001.jpg", b"one")
        add(opened, ".\\cam1\\0001.jpg", b"two")
    with pytest.raises(UserError, match=r"twice\.tar\.gz: cam1/0001\.jpg is there twice"):
        packed(tmp_path / "twice.tar.gz")


def test_a_disk_without_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = as_zip(tmp_path / "a.zip", FILES)
    free = source.stat().st_size - 1
    monkeypatch.setattr(packing.shutil, "disk_usage", lambda folder: SimpleNamespace(free=free))
    with pytest.raises(UserError, match=r"raw: about 0\.0 GiB are needed, 0\.0 GiB are free; .*dvc gc"):
        packed(source)
    free += 1
    assert packed(source) == FILES


names = st.lists(
    st.sampled_from(["cam1", "..", ".", "", "etc", "C:", "~", "a.txt", "no.pdf", " ", "\\", "人"]), max_size=4
).map(lambda parts: "/".join(parts) + ".jpg")


@settings(derandomize=True, deadline=None, database=None, max_examples=25)
@given(
    st.dictionaries(names, st.binary(max_size=50), min_size=1, max_size=4),
    st.sampled_from(["zip", *TAR_MODES]),
)
def test_whatever_the_names_nothing_is_written_elsewhere(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes], kind: str
) -> None:
    folder = tmp_path_factory.mktemp("any")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        source = as_zip(folder / "a", files) if kind == "zip" else as_tar(folder / "a", files, kind=kind)
    before = source.read_bytes()
    mine = {own_name(name): data for name, data in files.items()}
    if len(mine) < len(files):
        with pytest.raises(UserError, match="is there twice"):
            packed(source)
    else:
        assert packed(source) == mine
    assert sorted(path.name for path in folder.iterdir()) == ["a", "raw"]
    assert source.read_bytes() == before

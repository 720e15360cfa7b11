"""From any place to the same archive."""

import hashlib
import os
import zipfile
from pathlib import Path

import pytest
from same_files import FILES, TAR_MODES, UNWANTED, as_folder, as_tar, as_zip, contents, wanted

from msclnet.datasets.acquire.limits import Limits
from msclnet.datasets.acquire.pack import pack
from msclnet.datasets.acquire.place import read_place
from msclnet.datasets.archive import open_source
from msclnet.errors import UserError

EVERYTHING = FILES | UNWANTED


def packed(source: Path, tmp_path: Path, **options) -> Path:
    destination = tmp_path / "raw" / f"{source.name}.packed"
    pack(read_place(str(source)), destination, **{"wanted": wanted, "workspace": tmp_path / "work"} | options)
    return destination


def refused(source: Path, tmp_path: Path, words: str, **options) -> None:
    """Packing must fail with these words and leave nothing behind, and what was there before must stay."""
    raw = tmp_path / "refused"
    raw.mkdir(exist_ok=True)
    (raw / "images.zip").write_bytes(b"from before")
    with pytest.raises(UserError, match=words) as caught:
        pack(
            read_place(str(source)),
            raw / "images.zip",
            **{"wanted": wanted, "workspace": tmp_path / "work"} | options,
        )
    assert str(source) in str(caught.value)
    assert [path.name for path in raw.iterdir()] == ["images.zip"]
    assert (raw / "images.zip").read_bytes() == b"from before"


def all_forms(tmp_path: Path) -> dict[str, Path]:
    forms = {
        "folder": as_folder(tmp_path / "folder", EVERYTHING),
        "stored zip": as_zip(tmp_path / "stored.zip", EVERYTHING, method=zipfile.ZIP_STORED),
        "deflated zip": as_zip(tmp_path / "deflated.zip", EVERYTHING),
        "bzip2 zip": as_zip(tmp_path / "bzip2.zip", EVERYTHING, method=zipfile.ZIP_BZIP2),
        "lzma zip": as_zip(tmp_path / "lzma.zip", EVERYTHING, method=zipfile.ZIP_LZMA),
        "tar of .": as_tar(tmp_path / "dot.tar", EVERYTHING, prefix="./"),
    }
    return forms | {kind: as_tar(tmp_path / f"all.{kind}", EVERYTHING, kind=kind) for kind in TAR_MODES}


def test_every_form_gives_the_same_bytes(tmp_path: Path) -> None:
    digests = {}
    for form, source in all_forms(tmp_path).items():
        destination = packed(source, tmp_path)
        assert contents(destination) == FILES, form
        digests[form] = hashlib.sha256(destination.read_bytes()).hexdigest()
    assert len(digests) == 10
    assert len(set(digests.values())) == 1, digests


def test_the_archive_is_stored_sorted_and_readable_as_source(tmp_path: Path) -> None:
    destination = packed(as_zip(tmp_path / "a.zip", EVERYTHING), tmp_path)
    with zipfile.ZipFile(destination) as archive:
        members = archive.infolist()
        assert archive.testzip() is None
    assert [member.filename for member in members] == sorted(FILES)
    assert {member.compress_type for member in members} == {zipfile.ZIP_STORED}
    assert {member.date_time for member in members} == {(1980, 1, 1, 0, 0, 0)}
    source = open_source(destination)
    assert {name: source.read(name) for name in source.names()} == FILES


def test_a_longer_left_over_file_does_not_show(tmp_path: Path) -> None:
    source = as_zip(tmp_path / "a.zip", EVERYTHING)
    clean = packed(source, tmp_path).read_bytes()
    (tmp_path / "raw" / ".a.zip.packed.partial").write_bytes(bytes(1_000_000))
    assert packed(source, tmp_path).read_bytes() == clean
    assert [path.name for path in (tmp_path / "raw").iterdir()] == ["a.zip.packed"]


def test_the_number_of_files_is_returned_and_the_folder_is_left_alone(tmp_path: Path) -> None:
    folder = as_folder(tmp_path / "folder", EVERYTHING)
    count = pack(
        read_place(str(folder)), tmp_path / "deep/er/images.zip", wanted=wanted, workspace=tmp_path / "work"
    )
    assert count == len(FILES)
    assert {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()} == set(EVERYTHING)
    assert [path.name for path in (tmp_path / "deep/er").iterdir()] == ["images.zip"]
    assert not (tmp_path / "work").exists()


def test_a_hard_link_to_the_former_archive_is_not_written_through(tmp_path: Path) -> None:
    """DVC links its cache to the workspace."""
    folder = as_folder(tmp_path / "folder", FILES)
    destination, cache = tmp_path / "images.zip", tmp_path / "cached"
    cache.write_bytes(b"in the cache")
    os.link(cache, destination)
    pack(read_place(str(folder)), destination, wanted=wanted, workspace=tmp_path)
    assert cache.read_bytes() == b"in the cache"
    assert contents(destination) == FILES


def test_a_folder_of_links_is_read(tmp_path: Path) -> None:
    disk = as_folder(tmp_path / "disk", FILES)
    folder = tmp_path / "folder"
    (folder / "exp").mkdir(parents=True)
    for camera in ("cam1", "cam3", "cam10"):
        (folder / camera).symlink_to(disk / camera)
    for name in FILES:
        if name.startswith("exp/"):
            (folder / name).symlink_to(disk / name)
    (folder / "cam1/0001/loop").symlink_to(folder)
    (folder / "dangling.pdf").symlink_to("/nowhere")
    assert contents(packed(folder, tmp_path)) == FILES


def test_a_wanted_link_to_nothing_is_named(tmp_path: Path) -> None:
    folder = as_folder(tmp_path / "folder", FILES)
    (folder / "cam1/0001/0003.jpg").symlink_to("/not/mounted/0003.jpg")
    refused(
        folder, tmp_path, r"cam1/0001/0003\.jpg is a link to '/not/mounted/0003\.jpg', where there is nothing"
    )


def test_a_pipe_is_never_opened(tmp_path: Path) -> None:
    folder = as_folder(tmp_path / "folder", FILES)
    os.mkfifo(folder / "pipe")
    assert contents(packed(folder, tmp_path)) == FILES
    os.mkfifo(folder / "pipe.jpg")
    refused(folder, tmp_path, r"'pipe\.jpg' is a link or a device")


def test_backslashes_in_a_folder(tmp_path: Path) -> None:
    """What unzipping on Linux makes of an archive that was packed by a careless program on Windows."""
    folder = as_folder(tmp_path / "folder", {"cam1\\0001\\0001.jpg": b"one"})
    assert contents(packed(folder, tmp_path)) == {"cam1/0001/0001.jpg": b"one"}


def test_nothing_wanted(tmp_path: Path) -> None:
    files = {"SYSU-MM01.zip": b"PK", "deep/notes.RAR": b"Rar!"} | {f"{i}.pdf": b"%PDF" for i in range(9)}
    folder = as_folder(tmp_path / "folder", files)
    hint = "cam1/0001/0001.jpg and exp/test_id.txt"
    for source in (folder, as_zip(tmp_path / "outer.zip", files), as_tar(tmp_path / "outer.tar", files)):
        refused(source, tmp_path, "none of the files", expected=hint)
        with pytest.raises(UserError) as caught:
            packed(source, tmp_path, expected=hint)
        message = str(caught.value)
        assert "11 other files, for example '" in message
        assert f"expected {hint}" in message
        assert "archives inside of it are not opened" in message
        assert "'SYSU-MM01.zip'" in message
        assert "'deep/notes.RAR'" in message


@pytest.mark.parametrize("make", [as_folder, as_zip, as_tar])
def test_empty_places(tmp_path: Path, make) -> None:
    source = make(tmp_path / "empty", {})
    source.mkdir(exist_ok=True) if make is as_folder else None
    refused(source, tmp_path, "none of the files that are needed, but no file")


@pytest.mark.parametrize("make", [as_folder, as_zip, as_tar])
def test_limits(tmp_path: Path, make) -> None:
    source = make(tmp_path / "source", FILES)
    total = sum(map(len, FILES.values()))
    entries = len(FILES) + (make is not as_folder)  # the archives hold an empty folder as well
    exact = Limits(files=entries, file_bytes=70_000, total_bytes=total)
    assert contents(packed(source, tmp_path, limits=exact)) == FILES
    refused(source, tmp_path, f"more than {entries - 1} entries", limits=Limits(files=entries - 1))
    refused(source, tmp_path, r"'cam3/0001/0001\.JPG' has more than 69999", limits=Limits(file_bytes=69_999))
    refused(source, tmp_path, f"more than {total - 1} bytes together", limits=Limits(total_bytes=total - 1))


def test_the_declared_sha256_of_an_archive_is_checked(tmp_path: Path) -> None:
    source = as_zip(tmp_path / "a.zip", FILES)
    right = hashlib.sha256(source.read_bytes()).hexdigest()
    destination = tmp_path / "images.zip"
    pack(read_place(str(source), sha256=right), destination, wanted=wanted, workspace=tmp_path)
    assert contents(destination) == FILES
    destination.unlink()
    with pytest.raises(UserError, match=rf"a\.zip: its sha256 is {right}, but {'0' * 64} was declared"):
        pack(read_place(str(source), sha256="0" * 64), destination, wanted=wanted, workspace=tmp_path)
    assert not destination.exists()


def test_a_disk_without_room_is_told_before_anything_is_written(tmp_path: Path) -> None:
    """A file that is larger than any disk: sparse, so that it takes no room itself."""
    folder = as_folder(tmp_path / "folder", FILES)
    with (folder / "huge.jpg").open("wb") as file:
        file.truncate(2**43)
    limits = Limits(file_bytes=2**44, total_bytes=2**44)
    destination = tmp_path / "images.zip"
    with pytest.raises(UserError, match=r"8192\.\d GiB are needed, \d+\.\d GiB are free"):
        pack(read_place(str(folder)), destination, wanted=wanted, workspace=tmp_path, limits=limits)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder"]

"""The digest must change with the content, and with nothing else."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest
from same_files import FILES, as_folder, as_tar, as_zip, wanted

from msclnet.datasets.acquire.fingerprint import fingerprint
from msclnet.datasets.acquire.place import read_place
from msclnet.errors import UserError

OTHER = "0123456789abcdef" * 4


def digest(source: Path, memory: Path, **options) -> str:
    return fingerprint(read_place(str(source)), memory=memory, **options)


def by_hand(files: dict[str, bytes]) -> str:
    """The documented rule, written once more."""
    lines = [
        f"{name}\0{len(files[name])} {hashlib.sha256(files[name]).hexdigest()}\n" for name in sorted(files)
    ]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def believed(memory: Path, source: Path) -> None:
    """Plants another digest in the memory: what comes out of it afterwards was not computed."""
    values = json.loads(memory.read_text())
    values[str(source)]["sha256"] = OTHER
    memory.write_text(json.dumps(values))


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    return tmp_path / "tmp" / "digests.json"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return as_folder(tmp_path / "folder", FILES)


@pytest.mark.parametrize("make", [as_zip, as_tar])
def test_an_archive_has_the_sha256_of_its_file(tmp_path: Path, memory: Path, make) -> None:
    archive = make(tmp_path / "archive", FILES)
    assert digest(archive, memory) == hashlib.sha256(archive.read_bytes()).hexdigest()


def test_a_folder_has_the_digest_of_its_listing(folder: Path, memory: Path) -> None:
    assert digest(folder, memory) == by_hand(FILES)


def test_an_address_is_not_asked(memory: Path) -> None:
    place = read_place("https://host.invalid/a.zip", sha256=OTHER)
    assert fingerprint(place, memory=memory) == OTHER
    assert not memory.exists()


def test_copies_links_times_and_empty_folders_do_not_matter(
    tmp_path: Path, folder: Path, memory: Path
) -> None:
    expected = by_hand(FILES)
    copy = tmp_path / "elsewhere" / "another name"
    shutil.copytree(folder, copy)
    assert digest(copy, memory) == expected
    links = tmp_path / "links"
    (links / "empty").mkdir(parents=True)
    for part in folder.iterdir():
        (links / part.name).symlink_to(part)
    assert digest(links, memory) == expected
    os.utime(folder / "cam1/0001/0001.jpg", (1, 1))
    assert digest(folder, memory) == expected


@pytest.mark.parametrize(
    "change",
    [
        {"cam1/0001/0001.jpg": FILES["cam1/0001/0001.jpg"][:-1] + b"?"},
        {"cam1/0001/0002.jpg": b"\0"},
        {"new.txt": b""},
        {"exp/train_id.txt": None},
        {"exp/train_id.txt": None, "exp/train_ID.txt": FILES["exp/train_id.txt"]},
        {
            "cam1/0001/0001.jpg": FILES["cam10/0002/0001.jpg"],
            "cam10/0002/0001.jpg": FILES["cam1/0001/0001.jpg"],
        },
    ],
)
def test_every_change_of_content_is_seen(folder: Path, memory: Path, change: dict[str, bytes | None]) -> None:
    before = digest(folder, memory)
    for name, content in change.items():
        (folder / name).unlink(missing_ok=True)
        if content is not None:
            (folder / name).write_bytes(content)
    files = {name: content for name, content in (FILES | change).items() if content is not None}
    assert digest(folder, memory) == by_hand(files) != before


def test_a_change_in_place_with_the_old_size_and_time(tmp_path: Path, folder: Path, memory: Path) -> None:
    path = folder / "cam3/0001/0001.JPG"
    archive = as_tar(tmp_path / "a.tar", FILES)
    before = digest(folder, memory), digest(archive, memory)
    for file in (path, archive):
        status, content = file.stat(), file.read_bytes()
        with file.open("r+b") as opened:
            opened.seek(content.index(FILES["cam3/0001/0001.JPG"]))
            opened.write(b"other")
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
        assert file.stat().st_mtime_ns == status.st_mtime_ns
    assert digest(folder, memory) != before[0]
    assert digest(archive, memory) == hashlib.sha256(archive.read_bytes()).hexdigest() != before[1]


def test_only_wanted_files_of_a_folder_count(folder: Path, memory: Path) -> None:
    (folder / "notes.pdf").write_bytes(b"today")
    assert digest(folder, memory, wanted=wanted) == by_hand(FILES)
    assert digest(folder, memory) == by_hand(FILES | {"notes.pdf": b"today"})


def test_what_is_known_is_not_read_again(tmp_path: Path, folder: Path, memory: Path) -> None:
    archive = as_zip(tmp_path / "a.zip", FILES)
    for source in (folder, archive):
        first = digest(source, memory)
        believed(memory, source)
        assert digest(source, memory) == OTHER
        path = source if source is archive else folder / "cam1/0001/0001.jpg"
        os.utime(path)
        assert digest(source, memory) == first
    assert set(json.loads(memory.read_text())) == {str(folder), str(archive)}
    assert [path.name for path in memory.parent.iterdir()] == [memory.name]


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b"3",
        b"[" * 100_000,
        b'{"FOLDER": 3}',
        b'{"FOLDER": {"state": 1, "sha256": "x"}}',
    ],
)
def test_a_damaged_memory_is_written_anew(folder: Path, memory: Path, damage: bytes) -> None:
    memory.parent.mkdir()
    memory.write_bytes(damage.replace(b"FOLDER", str(folder).encode()))
    assert digest(folder, memory) == by_hand(FILES)
    believed(memory, folder)
    assert digest(folder, memory) == OTHER


def test_a_memory_that_cannot_be_written_stops_nobody(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert digest(folder, tmp_path / "file" / "memory.json") == by_hand(FILES)


def test_the_declared_sha256_is_compared(tmp_path: Path, memory: Path) -> None:
    archive = as_zip(tmp_path / "a.zip", FILES)
    right = hashlib.sha256(archive.read_bytes()).hexdigest()
    for _ in range(2):
        assert fingerprint(read_place(str(archive), sha256=right), memory=memory) == right
        with pytest.raises(UserError, match=rf"a\.zip: its sha256 is {right}, but {OTHER} was declared"):
            fingerprint(read_place(str(archive), sha256=OTHER), memory=memory)


def test_files_that_are_still_being_written(folder: Path, memory: Path) -> None:
    """The listing is taken again after the reading; here each look at a name makes a file longer."""

    def look(name: str) -> bool:
        with (folder / "exp/train_id.txt").open("ab") as file:
            file.write(b"4")
        return True

    with pytest.raises(UserError, match="folder changed while it was read; wait until it is copied"):
        digest(folder, memory, wanted=look)
    assert not memory.exists()


def test_a_loop_of_links_ends(folder: Path, memory: Path) -> None:
    (folder / "cam1" / "again").symlink_to(folder)
    (folder / "itself").symlink_to("itself")
    assert digest(folder, memory) == by_hand(FILES)

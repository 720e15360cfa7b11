"""Archives by properties: nothing is written elsewhere, what is accepted has its bytes, all else is a UserError."""

import io
import posixpath
import stat
import tarfile
import tempfile
import warnings
import zipfile
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from same_files import TAR_MODES, contents, wanted

from msclnet.datasets.acquire.pack import pack
from msclnet.datasets.acquire.place import read_place
from msclnet.errors import UserError

MODERATELY = settings(derandomize=True, deadline=None, database=None, max_examples=80)
ZIP_METHODS = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
UNIX = {
    "file": stat.S_IFREG, "folder": stat.S_IFDIR, "link": stat.S_IFLNK, "hard link": stat.S_IFREG,
    "pipe": stat.S_IFIFO, "device": stat.S_IFCHR,
}  # fmt: skip
TAR_TYPES = {
    "file": tarfile.REGTYPE, "folder": tarfile.DIRTYPE, "link": tarfile.SYMTYPE, "hard link": tarfile.LNKTYPE,
    "pipe": tarfile.FIFOTYPE, "device": tarfile.CHRTYPE,
}  # fmt: skip


class Member(NamedTuple):
    name: str
    content: bytes
    kind: str


clean_words = st.text(
    st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="/\\:"), min_size=1, max_size=12
).filter(lambda word: word.strip(".") != "")
clean_names = st.lists(clean_words, min_size=1, max_size=3).map(lambda pieces: "/".join(pieces) + ".jpg")

words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
parts = st.sampled_from(["cam1", "..", ".", "", "etc", "C:", "~", "0001.jpg", "a.txt", "no.pdf", " "]) | words
wild_names = st.builds(
    lambda start, pieces, between, end: start + between.join(pieces) + end,
    st.sampled_from(["", "", "", "/", "./", "../", "\\", "c:\\", "//host/"]),
    st.lists(parts, max_size=4),
    st.sampled_from(["/", "/", "\\", "//"]),
    st.sampled_from(["", ".jpg", ".JPG", ".txt", "/", ".exe"]),
)
kinds = st.sampled_from(["file"] * 12 + [*UNIX])
contents_of_files = st.binary(max_size=300) | st.integers(0, 3000).map(bytes)
names = (
    clean_names | clean_names | clean_names | wild_names
)  # mostly clean, or one in five would always be refused
members = st.lists(st.builds(Member, names, contents_of_files, kinds), min_size=1, max_size=5)
containers = st.sampled_from([*(("zip", method) for method in ZIP_METHODS), *TAR_MODES.items()])


def as_archive(path: Path, given_members: list[Member], container: tuple[str, object]) -> Path:
    kind, how = container
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # duplicate names are meant
        if kind == "zip":
            with zipfile.ZipFile(path, "w") as archive:
                for name, content, of in given_members:
                    member = zipfile.ZipInfo(name)
                    member.create_system, member.external_attr = 3, (UNIX[of] | 0o777) << 16
                    archive.writestr(member, content, compress_type=how)  # pyright: ignore[reportArgumentType]
            return path
        with tarfile.open(path, how, format=tarfile.PAX_FORMAT) as archive:  # pyright: ignore
            for name, content, of in given_members:
                member = tarfile.TarInfo(name)
                member.type, member.linkname = TAR_TYPES[of], "/etc/passwd" if "link" in of else ""
                member.size = len(content) if of == "file" else 0
                archive.addfile(member, io.BytesIO(content))
    return path


def packed(folder: Path, archive: Path) -> dict[str, bytes] | UserError:
    """What came out; whatever it was, nothing else may have changed on the disk."""
    (folder / "raw").mkdir()
    (folder / "victim.jpg").write_bytes(b"before")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    target = folder / "raw" / "images.zip"
    try:
        pack(read_place(str(archive)), target, wanted=wanted, workspace=folder / "work")
        outcome: dict[str, bytes] | UserError = contents(target)
    except UserError as error:
        assert not target.exists()
        outcome = error
    target.unlink(missing_ok=True)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert sorted(path.name for path in folder.iterdir()) == ["given", "raw", "victim.jpg"]
    return outcome


@MODERATELY
@given(members, containers)
def test_any_names_kinds_and_links(given_members: list[Member], container: tuple[str, object]) -> None:
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        outcome = packed(folder, as_archive(folder / "given", given_members, container))
    if isinstance(outcome, UserError):
        assert len(str(outcome)) < 3000
        return
    stored: dict[str, list[bytes]] = {}
    zipped = container[0] == "zip"
    for name, content, kind in given_members:
        if zipped and name.replace("\\", "/").endswith("/"):
            continue  # the mark of a folder there, whatever else is said of it
        if kind == "file" or (zipped and kind == "hard link"):  # of which zip archives know nothing
            stored.setdefault(posixpath.normpath(name.replace("\\", "/")), []).append(content)
    for name, content in outcome.items():
        path = PurePosixPath(name)
        assert not path.is_absolute()
        assert ".." not in path.parts
        assert str(path) == name
        assert stored[name] == [content]
    assert {name for name in stored if wanted(name)} <= set(outcome)


@MODERATELY
@given(st.dictionaries(clean_names, contents_of_files, min_size=1, max_size=5), containers)
def test_clean_archives_give_their_bytes(files: dict[str, bytes], container: tuple[str, object]) -> None:
    """The counterpart, without which refusing everything would do."""
    given_members = [Member(name, content, "file") for name, content in files.items()]
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        assert packed(folder, as_archive(folder / "given", given_members, container)) == files


@MODERATELY
@given(st.data(), containers)
def test_damaged_archives(data: st.DataObject, container: tuple[str, object]) -> None:
    """Files may go missing by a changed name; what is accepted has the bytes of one of the files, or is refused."""
    files = {f"cam{i}/000{i}.jpg": bytes([i]) * (100 + i) for i in range(4)}
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        path = as_archive(folder / "given", [Member(*file, "file") for file in files.items()], container)
        damaged = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(1, 4))):
            damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
        path.write_bytes(damaged)
        outcome = packed(folder, path)
    if container[0] != "tar" and not isinstance(outcome, UserError):  # plain tar has no checksum over content
        assert set(outcome.values()) <= set(files.values())


@pytest.mark.parametrize("container", [("zip", zipfile.ZIP_STORED), ("tar", "w")])
def test_names_beyond_all_measure(tmp_path: Path, container: tuple[str, object]) -> None:
    archive = as_archive(tmp_path / "given", [Member("a" * 5000 + ".jpg", b"", "file")], container)
    outcome = packed(tmp_path, archive)
    assert isinstance(outcome, UserError)
    assert "has more than 4096 characters" in str(outcome)
    assert len(str(outcome)) < 1000

"""What a user may give, and what is said about everything else."""

import gzip
import lzma
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from same_files import FILES, TAR_MODES, as_folder, as_tar, as_zip

from msclnet.datasets.acquire.address import shown
from msclnet.datasets.acquire.archive_kind import Kind
from msclnet.datasets.acquire.place import Address, Archive, Folder, read_place
from msclnet.errors import UserError

SHA256 = "ab" * 32


def test_folders_and_archives_by_content_and_not_by_name(tmp_path: Path) -> None:
    folder = as_folder(tmp_path / "folder.zip", FILES)
    assert read_place(str(folder)) == Folder(folder)
    archive = as_zip(tmp_path / "archive of tar.tar", FILES)
    assert read_place(str(archive)) == Archive(archive, "zip")
    for kind in TAR_MODES:
        archive = as_tar(tmp_path / f"{kind}.zip", FILES, kind=kind)
        assert read_place(str(archive)) == Archive(archive, kind)


def test_a_tar_archive_that_ends_with_a_zip_archive_is_a_tar_archive(tmp_path: Path) -> None:
    inner = as_zip(tmp_path / "inner.zip", {"a.jpg": b"a"}).read_bytes()
    outer = as_tar(tmp_path / "outer.tar", {"inner.zip": inner})
    assert zipfile.is_zipfile(outer)
    assert read_place(str(outer)) == Archive(outer, "tar")


def test_a_zip_archive_that_unpacks_itself(tmp_path: Path) -> None:
    plain = as_zip(tmp_path / "plain.zip", FILES)
    program = tmp_path / "setup.exe"
    program.write_bytes(b"MZ" + bytes(1000) + plain.read_bytes())
    assert read_place(str(program)) == Archive(program, "zip")


def test_an_old_tar_archive_without_magic_word(tmp_path: Path) -> None:
    old = tmp_path / "old.tar"
    header = bytearray(tarfile.TarInfo("a.jpg").tobuf(tarfile.USTAR_FORMAT))
    header[257:] = bytes(255)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    old.write_bytes(bytes(header) + bytes(1024))
    assert read_place(str(old)) == Archive(old, "tar")


@pytest.mark.parametrize("kind", TAR_MODES)
def test_a_tar_archive_without_any_member(tmp_path: Path, kind: Kind) -> None:
    archive = tmp_path / "empty"
    tarfile.open(archive, TAR_MODES[kind]).close()
    assert read_place(str(archive)) == Archive(archive, kind)


def test_ways_to_write_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = as_folder(tmp_path / "my data", FILES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for text in ("my data", "./my data/", "~/my data", f"file://{tmp_path}/my%20data", f"  {folder}\n"):
        assert read_place(text) == Folder(folder), text
    (tmp_path / "link").symlink_to(folder)
    assert read_place("link") == Folder(tmp_path / "link")


def test_the_sha256_of_an_archive(tmp_path: Path) -> None:
    archive = as_zip(tmp_path / "a.zip", FILES)
    assert read_place(str(archive), sha256=f" {SHA256.upper()} ") == Archive(archive, "zip", SHA256)
    with pytest.raises(UserError, match="is a folder, and a sha256 belongs to an archive"):
        read_place(str(tmp_path), sha256=SHA256)


@pytest.mark.parametrize("sha256", ["ab", SHA256[:-1], SHA256 + "0", "g" * 64, f"sha256:{SHA256}"])
@pytest.mark.parametrize("text", ["/", "https://host/a.zip"])
def test_no_sha256(sha256: str, text: str) -> None:
    with pytest.raises(UserError, match="is not a sha256") as caught:
        read_place(text, sha256=sha256)
    assert repr(sha256) in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "http://host/a.zip",
        "HTTPS://user:pass@host:8080/a.zip?x=1",
        "s3://bucket/a.tar",
        "gs://bucket/a.tar",
        "ssh://user@host/a.tar",
        "remote://my_remote/deep/a.zip",
        "azure://container/a.zip",
    ],
)
def test_addresses(url: str) -> None:
    """Nothing is asked for: most of these hosts do not exist."""
    assert read_place(url, sha256=SHA256) == Address(url, SHA256)
    with pytest.raises(UserError, match=r"an address needs the sha256 of its archive.*sha256sum"):
        read_place(url)


@pytest.mark.parametrize(
    "url",
    ["http://", "https:///a.zip", "http://host:port/a", "http://h/a b.zip", "http://h/a\n", "http://[::1/a"],
)
def test_addresses_that_are_none(url: str) -> None:
    text = url if url != "http://h/a\n" else "http://h/a\nb"
    with pytest.raises(UserError, match="is not a valid address"):
        read_place(text, sha256=SHA256)


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        ("ssh://me:hunter2@host/a.zip", "ssh://***@host/a.zip"),
        ("ssh://me:a@b:hunter2@host/a.zip", "ssh://***@host/a.zip"),
        ("azure://container/a.zip?sig=hunter2", "azure://container/a.zip?***"),
        ("s3://bucket/a.zip#hunter2", "s3://bucket/a.zip?***"),
    ],
)
def test_a_password_for_dvc_belongs_into_its_configuration(url: str, safe: str) -> None:
    with pytest.raises(UserError, match=rf"{re.escape(safe)}: .*dvc remote modify --local") as caught:
        read_place(url, sha256=SHA256)
    assert "hunter2" not in str(caught.value)


def test_an_address_does_not_show_its_secrets() -> None:
    place = read_place("https://me:hunter2@host/a.zip?token=hush", sha256=SHA256)
    assert str(place) == "https://***@host/a.zip?***"
    assert "hunter2" not in repr(place)
    assert "hush" not in repr(place)


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        ("https://host/a.zip", "https://host/a.zip"),
        ("https://host:80/a.zip?a=b&c=d#e", "https://host:80/a.zip?***"),
        ("https://host/a.zip#e", "https://host/a.zip?***"),
        ("https://me@host/a.zip", "https://***@host/a.zip"),
        ("https://me:a@b/c?d#e@host/a.zip", "https://***@host/a.zip"),
        ("https://me:pass@host?x=1", "https://***@host?***"),
        ("s3://bucket/key", "s3://bucket/key"),
    ],
)
def test_what_is_shown(url: str, safe: str) -> None:
    assert shown(url) == safe


@pytest.mark.parametrize("text", ["", "   "])
def test_nothing_given(text: str) -> None:
    with pytest.raises(UserError, match="no place of the images given"):
        read_place(text)


def test_nothing_there(tmp_path: Path) -> None:
    for text in (f"{tmp_path}/missing.zip", f"file://{tmp_path}/missing.zip"):
        with pytest.raises(UserError, match=r"missing\.zip: no such file or folder"):
            read_place(text)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is not a zip, tar"),
        (b"hello", "is not a zip, tar"),
        (bytes(511), "is not a zip, tar"),
        (b"\xff\xd8\xff\xe0" + bytes(2000), "is not a zip, tar"),
        (b"Rar!\x1a\x07\x01\x00", "is a RAR archive; unpack it and give the folder"),
        (b"7z\xbc\xaf\x27\x1c\x00\x04", "is a 7z archive"),
        (b"\x28\xb5\x2f\xfd" + bytes(20), "is a Zstandard archive"),
        (gzip.compress(b"a text that is no tar archive" * 100, mtime=0), "is not a zip, tar"),
        (lzma.compress(b"short"), "is not a zip, tar"),
        (gzip.compress(bytes(5000), mtime=0)[:12], "is damaged, or not a zip, tar"),
        (b"BZh91AY&SY" + bytes(100), "is damaged, or not a zip, tar"),
        (b"\xfd7zXZ\0" + bytes(100), "is damaged, or not a zip, tar"),
    ],
)
def test_no_archive(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "images.zip"
    path.write_bytes(content)
    with pytest.raises(UserError, match=rf"images\.zip {words}"):
        read_place(str(path))


@pytest.mark.parametrize("text", ["x" * 5000, "~nobody-of-this-name/data", "a\0b"])
def test_paths_that_cannot_be(text: str) -> None:
    with pytest.raises(UserError, match=r"cannot be read|no such file"):
        read_place(text)


def test_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="neither a file nor a folder"):
        read_place(str(tmp_path / "pipe"))


def test_nothing_that_costs_time_is_imported_for_a_folder(tmp_path: Path) -> None:
    code = (
        "import sys; from msclnet.datasets.acquire.pack import pack; "
        "from msclnet.datasets.acquire.place import read_place; "
        f"read_place({str(tmp_path)!r}); print([m for m in ('dvc', 'torch', 'numpy') if m in sys.modules])"
    )
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert done.stdout == "[]\n"

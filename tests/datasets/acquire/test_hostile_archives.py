"""Archives made to do harm, and archives that took harm."""

import io
import lzma
import random
import stat
import struct
import tarfile
import tracemalloc
import zipfile
import zlib
from contextlib import nullcontext
from pathlib import Path

import pytest
from same_files import FILES, TAR_MODES, add, as_tar, as_zip, contents, wanted

from msclnet.datasets.acquire.archive_kind import Kind
from msclnet.datasets.acquire.limits import MIB, Limits, Meter
from msclnet.datasets.acquire.pack import pack
from msclnet.datasets.acquire.place import read_place
from msclnet.datasets.acquire.tar_stream import ForwardReader, members
from msclnet.errors import UserError

UNSAFE = {
    "/etc/cam1/0001.jpg": "is absolute",
    "../0001.jpg": r"leads out of the archive by '\.\.'",
    "cam1/../../0001.jpg": r"leads out of the archive by '\.\.'",
    "..\\0001.jpg": r"leads out of the archive by '\.\.'",
    "\\\\server\\share\\0001.jpg": "is absolute",
    "C:\\0001.jpg": "drive letter",
    "c:0001.jpg": "drive letter",
    "cam1/\x1b[2J.jpg": "control characters",
    "cam1/a\nb.jpg": "control characters",
    "../not wanted.pdf": r"leads out of the archive by '\.\.'",
    "/not wanted.pdf": "is absolute",
}


def run(source: Path, *, limits: Limits | None = None) -> dict[str, bytes]:
    """Packs; whatever happens, nothing but the archive may be there afterwards."""
    raw = source.parent / "raw"
    raw.mkdir(exist_ok=True)
    target = raw / "images.zip"
    target.unlink(missing_ok=True)
    try:
        pack(read_place(str(source)), target, wanted=wanted, workspace=source.parent / "work", limits=limits)
        return contents(target)
    finally:
        assert [path.name for path in raw.iterdir()] in ([], ["images.zip"])
        assert not (source.parent / "work").exists()


@pytest.mark.parametrize("name", UNSAFE)
@pytest.mark.parametrize("make", [as_zip, as_tar])
def test_unsafe_names(tmp_path: Path, make, name: str) -> None:
    source = make(tmp_path / "evil", FILES | {name: b"evil"})
    with pytest.raises(UserError, match=UNSAFE[name]) as caught:
        run(source)
    assert repr(name) in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_nul_in_a_name(tmp_path: Path) -> None:
    """zipfile would cut the name there and make a wanted file of it."""
    source = as_zip(tmp_path / "evil.zip", FILES | {"cam1/0009.jpg#.exe": b"evil"})
    source.write_bytes(source.read_bytes().replace(b"0009.jpg#.exe", b"0009.jpg\0.exe"))
    with pytest.raises(UserError, match=r"'cam1/0009\.jpg\\x00\.exe' holds a NUL"):
        run(source)
    with tarfile.open(tmp_path / "evil.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo("x")
        member.pax_headers = {"path": "cam1/0009.jpg\0.exe"}
        archive.addfile(member)
    with pytest.raises(UserError, match=r"'cam1/0009\.jpg\\x00\.exe' holds a NUL"):
        run(tmp_path / "evil.tar")


def test_names_that_are_only_unusual(tmp_path: Path) -> None:
    odd = {"./cam1//a b.jpg": b"1", "cam1\\0002\\c.jpg": b"2", "cam1/..dots...jpg": b"3", "cam1/人.jpg": b"4"}
    clean = {"cam1/a b.jpg": b"1", "cam1/0002/c.jpg": b"2", "cam1/..dots...jpg": b"3", "cam1/人.jpg": b"4"}
    assert run(as_zip(tmp_path / "odd.zip", odd)) == clean
    assert run(as_tar(tmp_path / "odd.tar", odd)) == clean


def test_names_that_are_no_text_matter_only_where_wanted(tmp_path: Path) -> None:
    foreign = b"\xcb\xb5\xc3\xf7.pdf".decode("utf-8", "surrogateescape")
    assert run(as_tar(tmp_path / "a.tar", FILES | {foreign: b"", "Icon\r": b""})) == FILES
    with pytest.raises(UserError, match="is not written in UTF-8"):
        run(as_tar(tmp_path / "b.tar", FILES | {foreign.replace(".pdf", ".jpg"): b""}))


@pytest.mark.parametrize("second", ["cam1/0001.jpg", "./cam1/0001.jpg", "cam1\\0001.jpg"])
def test_duplicates(tmp_path: Path, second: str) -> None:
    with zipfile.ZipFile(tmp_path / "twice.zip", "w") as archive:
        archive.writestr("cam1/0001.jpg", b"one")
        with pytest.warns(UserWarning, match="Duplicate") if second == "cam1/0001.jpg" else nullcontext():
            archive.writestr(second, b"two")
    with tarfile.open(tmp_path / "twice.tar.gz", "w:gz") as archive:
        add(archive, "cam1/0001.jpg", b"one")
        add(archive, second, b"two")
    for name in ("twice.zip", "twice.tar.gz"):
        with pytest.raises(UserError, match=rf"{name}: 'cam1/0001\.jpg' is there twice"):
            run(tmp_path / name)


LINKS = {
    tarfile.SYMTYPE: "/etc/passwd",
    tarfile.LNKTYPE: "cam1/0001/0001.jpg",
    tarfile.FIFOTYPE: "",
    tarfile.CHRTYPE: "",
    tarfile.BLKTYPE: "",
    b"Z": "",  # a kind that nobody knows
}


@pytest.mark.parametrize("kind", LINKS)
def test_links_and_devices_in_tar_archives(tmp_path: Path, kind: bytes) -> None:
    for name in ("not wanted", "cam1/link.jpg"):
        with tarfile.open(tmp_path / f"{name[:4]}.tar", "w") as archive:
            for file, content in FILES.items():
                add(archive, file, content)
            link = tarfile.TarInfo(name)
            link.type, link.linkname = kind, LINKS[kind]
            archive.addfile(link)
    assert run(tmp_path / "not .tar") == FILES
    with pytest.raises(UserError, match=r"'cam1/link\.jpg' is a link or a device"):
        run(tmp_path / "cam1.tar")


def test_a_linked_folder_is_not_followed(tmp_path: Path) -> None:
    """The classic: a link named like a folder, then a file below it."""
    with tarfile.open(tmp_path / "evil.tar", "w") as archive:
        link = tarfile.TarInfo("cam1")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path / "victim")
        archive.addfile(link)
        add(archive, "cam1/0001.jpg", b"evil")
    (tmp_path / "victim").mkdir()
    assert run(tmp_path / "evil.tar") == {"cam1/0001.jpg": b"evil"}
    assert list((tmp_path / "victim").iterdir()) == []


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices_in_zip_archives(tmp_path: Path, kind: int) -> None:
    for name in ("not wanted", "cam1/link.jpg"):
        as_zip(tmp_path / f"{name[:4]}.zip", FILES)
        with zipfile.ZipFile(tmp_path / f"{name[:4]}.zip", "a") as archive:
            link = zipfile.ZipInfo(name)
            link.create_system, link.external_attr = 3, (kind | 0o777) << 16
            archive.writestr(link, "/etc/passwd")
    assert run(tmp_path / "not .zip") == FILES
    with pytest.raises(UserError, match=r"'cam1/link\.jpg' is a link or a device"):
        run(tmp_path / "cam1.zip")


SMALL = Limits(unchecked_bytes=MIB, ratio=100, file_bytes=8 * MIB)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_bombs_in_zip_archives(tmp_path: Path, method: int) -> None:
    bomb = as_zip(tmp_path / "bomb.zip", {"a.jpg": bytes(4 * MIB)}, method=method)
    assert bomb.stat().st_size * 100 < 4 * MIB
    with pytest.raises(UserError, match="unpacks to more than 100 times its size"):
        run(bomb, limits=SMALL)


def test_a_bomb_that_belittles_itself(tmp_path: Path) -> None:
    """A header that declares ten bytes where four million come out."""
    bomb = as_zip(tmp_path / "bomb.zip", {"a.jpg": bytes(4 * MIB)})
    bomb.write_bytes(bomb.read_bytes().replace(struct.pack("<I", 4 * MIB), struct.pack("<I", 10)))
    with zipfile.ZipFile(bomb) as archive:
        assert archive.getinfo("a.jpg").file_size == 10
    with pytest.raises(UserError, match=r"'a\.jpg' is damaged"):
        run(bomb, limits=SMALL)


def test_a_member_that_exaggerates(tmp_path: Path) -> None:
    path = as_zip(tmp_path / "a.zip", {"a.jpg": random.Random(0).randbytes(5000)})
    path.write_bytes(path.read_bytes().replace(struct.pack("<I", 5000), struct.pack("<I", 5001)))
    with pytest.raises(UserError, match=r"'a\.jpg' is damaged \(5000 of 5001 bytes\)"):
        run(path)


def test_members_inside_of_each_other(tmp_path: Path) -> None:
    """Each member's content is the next member, header and all: nothing is compressed, yet much comes out."""
    data, directory, names = random.Random(0).randbytes(20_000), [], [f"{i:03}.jpg" for i in range(200)]
    for name in names:
        fields = (20, 0, 0, 0, 33, zlib.crc32(data), len(data), len(data), len(name), 0)
        directory.append((name, fields, len(data)))
        data = struct.pack("<4s5H3I2H", b"PK\3\4", *fields) + name.encode() + data
    entries = b"".join(
        struct.pack("<4sH5H3I5H2I", b"PK\1\2", 20, *fields, 0, 0, 0, 0, len(data) - size - 30 - len(name))
        + name.encode()
        for name, fields, size in directory
    )
    path = tmp_path / "nested.zip"
    path.write_bytes(
        data + entries + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 200, 200, len(entries), len(data), 0)
    )
    if refuses_overlaps(path):
        with pytest.raises(UserError, match=r"'001\.jpg' is damaged \(Overlapped entries"):
            run(path)
        return
    unpacked = run(path)
    assert list(unpacked) == names
    assert sum(map(len, unpacked.values())) > 100 * path.stat().st_size
    with pytest.raises(UserError, match="unpacks to more than 100 times its size"):
        run(path, limits=SMALL)


def refuses_overlaps(path: Path) -> bool:
    """Whether this release of Python looks for such members itself; Debian's 3.11.2 does, 3.11.7 does not."""
    with zipfile.ZipFile(path) as archive:
        try:
            archive.read("001.jpg")
        except zipfile.BadZipFile:
            return True
    return False


@pytest.mark.parametrize("kind", ["tar.gz", "tar.xz", "tar.bz2"])
@pytest.mark.parametrize("name", ["a.jpg", "not wanted.bin"])
def test_bombs_in_tar_archives(tmp_path: Path, kind: Kind, name: str) -> None:
    bomb = as_tar(tmp_path / "bomb", {name: bytes(4 * MIB), "b.jpg": b"b"}, kind=kind)
    with pytest.raises(UserError, match="unpacks to more than 100 times its size"):
        run(bomb, limits=SMALL)


def test_a_bomb_in_an_extended_header(tmp_path: Path) -> None:
    """tarfile reads such headers whole: without a bound, this one would be gigabytes in memory."""
    header = tarfile.TarInfo("header")
    header.type, header.size = tarfile.XHDTYPE, 2**33
    with lzma.open(tmp_path / "bomb.tar.xz", "wb") as file:
        file.write(header.tobuf(tarfile.GNU_FORMAT))
        for _ in range(8):
            file.write(bytes(MIB))
    with pytest.raises(UserError, match="a header of 8589934592 bytes"):
        run(tmp_path / "bomb.tar.xz")


def test_the_memory_does_not_grow_with_the_number_of_members() -> None:
    header = tarfile.TarInfo("cam1/0001/0001.jpg").tobuf()
    stream = io.BytesIO(header * 4000 + bytes(1024))
    tracemalloc.start()
    try:
        count = sum(1 for _ in members(ForwardReader(stream, Meter("a.tar", Limits(), stored_bytes=None))))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count == 4000
    assert peak < 300_000


def test_a_sparse_member_of_enormous_size(tmp_path: Path) -> None:
    member = tarfile.TarInfo("a.jpg")
    member.pax_headers = {"GNU.sparse.size": str(2**50), "GNU.sparse.map": "0,1", "GNU.sparse.numblocks": "1"}
    member.size = 1
    with tarfile.open(tmp_path / "sparse.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(member, io.BytesIO(b"x"))
    with tarfile.open(tmp_path / "sparse.tar") as archive:
        assert archive.getmember("a.jpg").size == 2**50
    with pytest.raises(UserError, match=rf"'a\.jpg' has more than {8 * MIB} bytes"):
        run(tmp_path / "sparse.tar", limits=SMALL)


def test_a_negative_size_does_not_hang(tmp_path: Path) -> None:
    header = bytearray(tarfile.TarInfo("a.pdf").tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\xff" * 10 + b"\xfc\x00"  # -1024, as GNU tar writes it
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    (tmp_path / "evil.tar").write_bytes(bytes(header) + bytes(4096))
    with pytest.raises(UserError, match=r"evil\.tar.* is damaged"):
        run(tmp_path / "evil.tar")


def test_encrypted_members(tmp_path: Path) -> None:
    source = as_zip(tmp_path / "locked.zip", {"a.jpg": b"secret"})
    data = bytearray(source.read_bytes())
    data[data.rindex(b"PK\3\4") + 6] |= 1  # the flag in the member's own header and in the directory
    data[data.rindex(b"PK\1\2") + 8] |= 1
    source.write_bytes(data)
    with pytest.raises(UserError, match=r"locked\.zip: 'a\.jpg' is encrypted; unpack"):
        run(source)


@pytest.mark.parametrize("kind", ["zip", *TAR_MODES])
def test_an_archive_cut_off_anywhere(tmp_path: Path, kind: Kind) -> None:
    source = tmp_path / f"cut.{kind}"
    as_zip(source, FILES) if kind == "zip" else as_tar(source, FILES, kind=kind)
    whole = source.read_bytes()
    assert run(source) == FILES
    end = len(whole)
    if kind == "tar":  # behind the first block of zeros there is nothing but padding
        with tarfile.open(source) as archive:
            end = max(m.offset_data + -(-m.size // 512) * 512 for m in archive.getmembers()) + 512
    for length in [*range(0, end, end // 30), end - 1]:
        source.write_bytes(whole[:length])
        with pytest.raises(UserError, match=rf"cut\.{kind}"):
            run(source)


@pytest.mark.parametrize("kind", ["zip", *TAR_MODES])
def test_damaged_bytes_are_noticed_or_harmless(tmp_path: Path, kind: Kind) -> None:
    """Each damage gives the very same files or a UserError."""
    files = {"cam1/0001.jpg": random.Random(3).randbytes(600), "exp/test_id.txt": b"1,2,3\n" * 50}
    source = tmp_path / f"damaged.{kind}"
    as_zip(source, files) if kind == "zip" else as_tar(source, files, kind=kind)
    whole = source.read_bytes()
    dice = random.Random(kind)
    if kind == "tar":  # which has no checksum over content: only its headers
        with tarfile.open(source) as archive:
            headers = [member.offset for member in archive.getmembers()]
        places = [dice.choice(headers) + dice.randrange(512) for _ in range(60)]
    else:  # no checksum covers the directory of a zip archive
        end = whole.index(b"PK\1\2") if kind == "zip" else len(whole)
        places = [dice.randrange(end) for _ in range(60)]
    errors = []
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << dice.randrange(8)
        source.write_bytes(damaged)
        try:
            assert run(source) == files, place
        except UserError as error:
            errors.append(str(error))
    assert len(errors) > 30
    assert all("damaged" in error or "is not a zip" in error for error in errors)


def test_a_damaged_directory_gives_no_other_content(tmp_path: Path) -> None:
    """A file may go missing by a changed name, which counting notices; none may change."""
    files = {f"cam1/{i:04}.jpg": random.Random(i).randbytes(100 + i) for i in range(3)}
    source = as_zip(tmp_path / "damaged.zip", files)
    whole = source.read_bytes()
    start, errors = whole.index(b"PK\1\2"), 0
    for place in range(start, len(whole), 7):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << (place % 8)
        source.write_bytes(damaged)
        try:
            assert run(source).items() <= files.items(), place
        except UserError:
            errors += 1
    assert errors > (len(whole) - start) // 28


def test_damage_in_the_middle_is_named_by_member(tmp_path: Path) -> None:
    source = as_zip(tmp_path / "a.zip", FILES, method=zipfile.ZIP_STORED)
    data = bytearray(source.read_bytes())
    data[data.index(FILES["cam3/0001/0001.JPG"]) + 35_000] ^= 1
    source.write_bytes(data)
    with pytest.raises(UserError, match=r"a\.zip: 'cam3/0001/0001\.JPG' is damaged \(Bad CRC-32"):
        run(source)


def test_archives_behind_each_other(tmp_path: Path) -> None:
    one, two = as_tar(tmp_path / "1.tar", FILES), as_tar(tmp_path / "2.tar", {"z.jpg": b"z"})
    (tmp_path / "both.tar").write_bytes(one.read_bytes() + two.read_bytes())
    with pytest.raises(UserError, match=r"both\.tar.*something follows behind its end"):
        run(tmp_path / "both.tar")

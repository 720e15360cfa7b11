"""The same few files as a folder and as archives of each kind, in orders and with times that differ."""

import io
import random
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msclnet.datasets.acquire.archive_kind import Kind

FILES: dict[str, bytes] = {
    "cam1/0001/0001.jpg": random.Random(1).randbytes(3000),
    "cam1/0001/0002.jpg": b"",
    "cam3/0001/0001.JPG": random.Random(2).randbytes(70_000),
    "cam10/0002/0001.jpg": bytes(5000),
    "exp/train_id.txt": b"1,2,3\r\n",
    "exp/Übersicht.txt": b"Personen\n",
}
UNWANTED: dict[str, bytes] = {"read me.pdf": b"%PDF", "cam1/Thumbs.db": b"thumbs", "demo.avi": bytes(10_000)}
TAR_MODES: dict[Kind, Any] = {"tar": "w", "tar.gz": "w:gz", "tar.xz": "w:xz", "tar.bz2": "w:bz2"}


def wanted(name: str) -> bool:
    return name.lower().endswith((".jpg", ".txt"))


def as_folder(root: Path, files: Mapping[str, bytes]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return root


def as_zip(path: Path, files: Mapping[str, bytes], *, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.mkdir("empty folder")
        for i, name in enumerate(reversed(list(files))):
            archive.writestr(zipfile.ZipInfo(name, (2017, 10, 1 + i, 1, 2, 4)), files[name], method)
    return path


def as_tar(path: Path, files: Mapping[str, bytes], *, kind: Kind = "tar", prefix: str = "") -> Path:
    with tarfile.open(path, TAR_MODES[kind]) as archive:
        folder = tarfile.TarInfo("empty folder")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for i, name in enumerate(sorted(files, key=lambda name: name[::-1])):
            add(archive, prefix + name, files[name], mtime=1_500_000_000 + i)
    return path


def add(archive: tarfile.TarFile, name: str, content: bytes, *, mtime: int = 0) -> None:
    member = tarfile.TarInfo(name)
    member.size, member.mtime = len(content), mtime
    archive.addfile(member, io.BytesIO(content))


def contents(packed: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(packed) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}

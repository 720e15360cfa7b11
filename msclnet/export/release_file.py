"""The release: one file with a trained network, its graphs, and golden images with the vectors that they must have.

A zip archive whose files are stored uncompressed, sorted and without dates: the same content gives the same bytes.
`manifest.json` in it names each file with its sha256. Nothing in it is executed or unpickled.
"""

import hashlib
import json
import os
import re
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from msclnet.embedding import StreamEmbedder, load_network
from msclnet.errors import UserError
from msclnet.export.backends import ONNX, OPENVINO, Agreement, agreement_of, build_embedder, by_batches
from msclnet.export.stream import is_installed

FORMAT = "msclnet-release"
FORMAT_VERSION = 1
MANIFEST = "manifest.json"
WEIGHTS = "model/model.safetensors"
SPEC = "model/network.json"
CALIBRATION = "model/calibration.json"
GOLDEN = "golden/images.safetensors"
GRAPHS = "graphs"
MODALITIES = {"visible": False, "infrared": True}
# In fp32. Other processors and numbers of threads add in another order: differences of about 1e-6 were seen.
LOWEST_COSINE = 0.9999
LARGEST_DIFFERENCE = 1e-3

_NAME = re.compile(r"[a-z]+(/[a-z_]+)?\.[a-z]+")
_MOST_FILES = 64
_LARGEST_MANIFEST = 1 << 20
_NO_DATE = (1980, 1, 1, 0, 0, 0)  # the zip format's first
_REMEDY = "take it again from where it was published"


@dataclass(frozen=True)
class Release:
    """An unpacked release whose files have the digests of its manifest."""

    folder: Path
    manifest: Mapping[str, Any]  # name, version, run_id, height and width of the images in pixels, files

    @property
    def weights(self) -> Path:
        return self.folder / WEIGHTS

    @property
    def spec(self) -> dict[str, Any]:
        """What `msclnet.embedding.load_network` takes."""
        return json.loads((self.folder / SPEC).read_bytes())

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the images."""
        return int(self.manifest["height"]), int(self.manifest["width"])


def write_release(folder: Path, path: Path, facts: Mapping[str, Any]) -> None:
    """Write the files below a folder, with their digests and the `facts` of `Release.manifest`, as one file."""
    names = sorted(each.relative_to(folder).as_posix() for each in folder.rglob("*") if each.is_file())
    files = {}
    for name in names:
        with (folder / name).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        files[name] = {"sha256": digest, "bytes": (folder / name).stat().st_size}
    manifest = {"format": FORMAT, "format_version": FORMAT_VERSION, **facts, "files": files}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.new")
    with zipfile.ZipFile(unfinished, "w", zipfile.ZIP_STORED) as archive:
        for name in (MANIFEST, *names):
            entry = zipfile.ZipInfo(name, _NO_DATE)
            entry.create_system, entry.external_attr = 3, 0o644 << 16
            entry.file_size = (folder / name).stat().st_size
            with (folder / name).open("rb") as source, archive.open(entry, "w") as target:
                while block := source.read(1 << 20):
                    target.write(block)
    os.replace(unfinished, path)


@contextmanager
def opened_release(path: Path) -> Iterator[Release]:
    """Unpack a release for the length of the block, and check every file's digest.

    UserError where the file is missing, is no release or one of a later format, or a file in it is damaged.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            with zipfile.ZipFile(path) as archive:
                manifest = _checked(archive, path)
                for file, facts in manifest["files"].items():
                    _unpack(archive, file, folder / file, sha256=facts["sha256"], release=path)
        except (FileNotFoundError, IsADirectoryError) as error:
            raise UserError(f"{path}: no such file") from error
        except (zipfile.BadZipFile, ValueError, KeyError, TypeError, AttributeError, EOFError) as error:
            raise UserError(f"{path} is no release of this project ({error}); {_REMEDY}") from error
        yield Release(folder, manifest)


def _checked(archive: zipfile.ZipFile, path: Path) -> dict[str, Any]:
    """The manifest of an archive that holds what it lists and nothing else.

    Stored entries that together are no larger than the file cannot fill the disk.
    """
    entries = archive.infolist()
    names = [entry.filename for entry in entries]
    stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
    if len(names) > _MOST_FILES or len(set(names)) < len(names) or not stored:
        raise ValueError("its files are too many, twice there or compressed")
    if wrong := [name for name in names if not _NAME.fullmatch(name)]:
        raise ValueError(f"it holds {wrong[0]!r}")
    if sum(entry.file_size for entry in entries) > path.stat().st_size:
        raise ValueError("its files are larger than itself")
    if archive.getinfo(MANIFEST).file_size > _LARGEST_MANIFEST:
        raise ValueError(f"its {MANIFEST} is too large")
    manifest = json.loads(archive.read(MANIFEST))
    if manifest["format"] != FORMAT:
        raise ValueError(f"{MANIFEST} names the format {manifest['format']!r}")
    if manifest["format_version"] != FORMAT_VERSION:
        raise UserError(
            f"{path} has format version {manifest['format_version']}; this program reads {FORMAT_VERSION}: update it"
        )
    listed = set(manifest["files"])
    if listed != set(names) - {MANIFEST} or not {WEIGHTS, SPEC, GOLDEN} <= listed:
        raise ValueError(f"its files are not those of its {MANIFEST}")
    return manifest


def _unpack(archive: zipfile.ZipFile, name: str, target: Path, *, sha256: str, release: Path) -> None:
    target.parent.mkdir(exist_ok=True)
    digest = hashlib.sha256()
    with archive.open(name) as source, target.open("wb") as file:
        while block := source.read(1 << 20):
            digest.update(block)
            file.write(block)
    if digest.hexdigest() != sha256:
        raise UserError(f"{release}: {name} does not have the sha256 of its {MANIFEST}; {_REMEDY}")


@dataclass(frozen=True)
class Verified:
    """How close a back end comes to the golden vectors, and whether that is within the tolerances."""

    backend: str
    agreement: Agreement
    right: bool


def verify_release(release: Release) -> list[Verified]:
    """Embed the golden images with each back end that is installed here, and compare with the golden vectors.

    Right is a cosine of at least `LOWEST_COSINE` and a difference of at most `LARGEST_DIFFERENCE` of the largest value.
    """
    from safetensors.numpy import load_file

    golden = load_file(release.folder / GOLDEN)
    infrared = golden["infrared"].astype(bool)
    found = []
    for backend, embed in _backends(release):
        parts = []
        for stream in (False, True):
            chosen = infrared == stream
            expected = golden["pooled"][chosen], golden["bnneck"][chosen]
            again = by_batches(partial(embed, infrared=stream), golden["images"][chosen])
            parts.append(agreement_of(expected, again))
        both = Agreement(
            cosine=float(np.min([part.cosine for part in parts])),  # NaN stays NaN
            difference=float(np.max([part.difference for part in parts])),
            images=len(infrared),
        )
        right = both.cosine >= LOWEST_COSINE and both.difference <= LARGEST_DIFFERENCE
        found.append(Verified(backend, both, right))
    return found


def _backends(release: Release) -> Iterator[tuple[str, StreamEmbedder]]:
    height, width = release.size
    network = load_network(release.weights, release.spec)
    for backend in ("torch", "folded"):
        yield backend, build_embedder(network, backend=backend, precision="fp32", height=height, width=width)
    for package in (ONNX, OPENVINO):
        files = {
            flag: release.folder / GRAPHS / f"{name}{package.ending}" for name, flag in MODALITIES.items()
        }
        if is_installed(package.package) and all(file.is_file() for file in files.values()):
            graphs = {f: package.load(file, threads=torch.get_num_threads()) for f, file in files.items()}
            yield package.package, lambda images, *, infrared, graphs=graphs: graphs[infrared](images)

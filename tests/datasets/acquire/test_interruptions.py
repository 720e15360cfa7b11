"""Processes that are ended in the middle of their work, by any means."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from same_files import FILES, as_folder, as_tar, as_zip, contents, wanted
from web_server import Site, serve

from msclnet.datasets.acquire.fetch import fetch
from msclnet.datasets.acquire.pack import pack
from msclnet.datasets.acquire.place import read_place
from msclnet.errors import UserError

# The last wanted name never comes to its end: of a folder, by becoming a pipe that nobody writes to after it was
# seen; of an archive, by waiting for such a pipe when it is asked for.
PACK = """
import os, signal, sys
from pathlib import Path
from msclnet.datasets.acquire.pack import pack
from msclnet.datasets.acquire.place import read_place

def terminate(number, frame):
    raise SystemExit(143)

def wanted(name):
    if name == "zzz.jpg":
        if source.is_dir():
            (source / name).unlink()
            os.mkfifo(source / name)
            print("waiting", flush=True)
        else:
            os.mkfifo(destination.parent.parent / "pipe")
            print("waiting", flush=True)
            open(destination.parent.parent / "pipe").read()
    return True

if sys.argv[3] == "handled":
    signal.signal(signal.SIGTERM, terminate)
signal.signal(signal.SIGINT, signal.default_int_handler)
source, destination = Path(sys.argv[1]), Path(sys.argv[2])
pack(read_place(str(source)), destination, wanted=wanted, workspace=destination.parent)
"""

FETCH = """
import signal, sys
from pathlib import Path
from msclnet.datasets.acquire.fetch import fetch

def terminate(number, frame):
    raise SystemExit(143)

signal.signal(signal.SIGTERM, terminate)
fetch(sys.argv[1], Path(sys.argv[2]), sha256=sys.argv[3])
"""

LIMITED = """
import resource, sys
from pathlib import Path
from msclnet.datasets.acquire.pack import pack
from msclnet.datasets.acquire.place import read_place
from msclnet.errors import UserError

resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))
try:
    place = read_place(sys.argv[1], sha256=sys.argv[3])
    pack(place, Path(sys.argv[2]), wanted=lambda name: True, workspace=Path(sys.argv[2]).parent)
except UserError as error:
    raise SystemExit(f"refused: {error}")
"""


@contextmanager
def started(code: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    root = Path(__file__).resolve().parents[3]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        env=os.environ | {"PYTHONPATH": str(root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.fixture(params=["folder", "tar"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    files = FILES | {"zzz.jpg": b"last"}
    if request.param == "folder":
        return as_folder(tmp_path / "folder", files)
    # as_tar sorts by the names read backwards, which puts this one before the other images
    return as_tar(tmp_path / "archive.tar.gz", files, kind="tar.gz")


def begin(process: subprocess.Popen[str], raw: Path) -> None:
    """Waits until the process is in the middle of packing."""
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    wait_until(lambda: (raw / ".images.zip.partial").exists(), process)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_packing_leaves_nothing(source: Path, tmp_path: Path, number: signal.Signals) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "images.zip").write_bytes(b"from before")
    with started(PACK, str(source), str(raw / "images.zip"), "handled") as process:
        begin(process, raw)
        process.send_signal(number)
        assert process.wait(timeout=60) != 0
    assert [path.name for path in raw.iterdir()] == ["images.zip"]
    assert (raw / "images.zip").read_bytes() == b"from before"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_what_a_killed_packing_leaves_is_cleaned_up(
    source: Path, tmp_path: Path, number: signal.Signals
) -> None:
    raw = tmp_path / "raw"
    with started(PACK, str(source), str(raw / "images.zip"), "unhandled") as process:
        begin(process, raw)
        process.send_signal(number)
        assert process.wait(timeout=60) == -number
    assert [path.name for path in raw.iterdir()] == [".images.zip.partial"]
    other = as_zip(tmp_path / "other.zip", FILES)
    pack(read_place(str(other)), raw / "images.zip", wanted=wanted, workspace=tmp_path)
    assert [path.name for path in raw.iterdir()] == ["images.zip"]
    assert contents(raw / "images.zip") == FILES


def test_two_at_once(source: Path, tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    with started(PACK, str(source), str(raw / "images.zip"), "handled") as process:
        begin(process, raw)
        before = (raw / ".images.zip.partial").stat().st_ino
        other = as_zip(tmp_path / "other.zip", FILES)
        with pytest.raises(UserError, match="another process is writing"):
            pack(read_place(str(other)), raw / "images.zip", wanted=wanted, workspace=tmp_path)
        assert (raw / ".images.zip.partial").stat().st_ino == before
        # The first one comes to its end once there is somebody at the pipe.
        pipe = source / "zzz.jpg" if source.is_dir() else tmp_path / "pipe"
        pipe.write_bytes(b"last")
        assert process.wait(timeout=60) == 0, process.communicate()[1]
    assert contents(raw / "images.zip") == FILES | {"zzz.jpg": b"last"}


@pytest.mark.parametrize("make", [as_folder, as_zip, as_tar])
def test_a_full_disk(tmp_path: Path, make) -> None:
    """The system refuses to write more than 40 kB, as it does at a full disk."""
    files = make(tmp_path / "source", FILES)
    raw = tmp_path / "raw"
    with started(LIMITED, str(files), str(raw / "images.zip"), "") as process:
        message = process.communicate(timeout=60)[1]
    assert process.returncode == 1
    assert "refused: " in message, message
    assert f"{raw / 'images.zip'} could not be written" in message
    assert list(raw.iterdir()) == []


def test_a_full_disk_while_downloading(tmp_path: Path) -> None:
    content = random.Random(0).randbytes(500_000)
    sha256 = hashlib.sha256(content).hexdigest()
    with serve(Site(content)) as site:
        with started(LIMITED, site.url, str(tmp_path / "images.zip"), sha256) as process:
            message = process.communicate(timeout=60)[1]
        assert "refused: " in message, message
        assert "images.zip.part could not be written: File too large; free some space" in message
        target = next(tmp_path.glob("*.part")).with_suffix("")
        fetch(site.url, target, sha256=sha256)
        assert site.requests[1][1]["Range"] == "bytes=40000-"
    assert target.read_bytes() == content


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_download_goes_on(tmp_path: Path, number: signal.Signals) -> None:
    content = random.Random(0).randbytes(500_000)
    sha256 = hashlib.sha256(content).hexdigest()
    target = tmp_path / "work" / "images.zip"
    part = target.with_name("images.zip.part")
    with serve(Site(content, cut_after=[200_000], silent=True)) as site:
        with started(FETCH, site.url, str(target), sha256) as process:
            wait_until(lambda: part.exists() and part.stat().st_size > 100_000, process)
            process.send_signal(number)
            process.wait(timeout=60)
        have = part.stat().st_size
        assert 100_000 < have <= 200_000
        site.silent = False
        fetch(site.url, target, sha256=sha256)
        assert [headers.get("Range") for _, headers in site.requests] == [None, f"bytes={have}-"]
    assert target.read_bytes() == content
    assert [path.name for path in target.parent.iterdir()] == ["images.zip"]


def test_two_downloads_at_once(tmp_path: Path) -> None:
    content = random.Random(0).randbytes(500_000)
    sha256 = hashlib.sha256(content).hexdigest()
    target = tmp_path / "images.zip"
    part = tmp_path / "images.zip.part"
    with serve(Site(content, cut_after=[200_000], silent=True)) as site:
        with started(FETCH, site.url, str(target), sha256) as process:
            wait_until(lambda: part.exists() and part.stat().st_size > 0, process)
            with pytest.raises(UserError, match=r"another process is writing .*images\.zip\.part"):
                fetch(site.url, target, sha256=sha256)
        assert len(site.requests) == 1

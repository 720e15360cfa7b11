"""Downloads a file over http(s), goes on after interruptions, and believes only its sha256."""

import hashlib
import json
import os
from contextlib import closing
from pathlib import Path
from typing import IO

from msclnet.datasets.acquire.address import check_address, shown
from msclnet.datasets.acquire.files import CHUNK, byte_bar, check_space, disk_full_told, exclusive, sha256_of
from msclnet.datasets.acquire.web import RESUMES, Answer, ask, read_some
from msclnet.errors import UserError

TIMEOUT = 60.0  # seconds without any byte
MOST = 2**38  # bytes; a server that never stops must not fill the disk


def fetch(url: str, destination: Path, *, sha256: str, timeout: float = TIMEOUT, most: int = MOST) -> Path:
    """Download a file, or the rest of it, and check it before it gets its name.

    What has arrived stays in `<destination>.part`, and in `<destination>.part.json` which version of the file that is.

    Args:
        url: http or https, `https://user:password@host/path` where a password is needed.
        destination: Its folder is made when missing; a complete file with the right sha256 is not fetched again.
        sha256: 64 hex digits in lower case.
        timeout: Seconds without any byte after which the connection counts as failed.
        most: Bytes after which the server is not listened to any more.

    Returns:
        The destination.

    Raises:
        UserError: The address is wrong or refused; the connection failed, and a second call goes on from there; the
            disk has no room; or the sha256 is another one, and what arrived has been removed.
    """
    check_address(url)
    if destination.is_file() and sha256_of(destination) == sha256:
        return destination
    destination.parent.mkdir(parents=True, exist_ok=True)
    part = destination.with_name(f"{destination.name}.part")
    note = destination.with_name(f"{part.name}.json")
    with disk_full_told(part), exclusive(part) as file:
        digest = _resume(file, note, sha256)
        page = False
        if not file.tell() or digest.hexdigest() != sha256:
            answer = _ask(url, file, note, timeout)
            page = answer.is_page
            if not answer.start:
                _start_anew(file, note, sha256=sha256, validator=answer.validator)
                digest = hashlib.sha256()
            _receive(url, answer, file, digest, most=most, folder=destination.parent)
        if digest.hexdigest() != sha256:
            part.unlink()
            note.unlink(missing_ok=True)
            raise UserError(
                f"{shown(url)}: the sha256 of what arrived is {digest.hexdigest()}, expected was {sha256}"
                f"{'; the server sent a web page, perhaps one to log in' if page else ''}; what arrived has been "
                "removed: check the address and the sha256"
            )
        os.fsync(file.fileno())
        os.replace(part, destination)
        note.unlink(missing_ok=True)
    return destination


def _resume(file: IO[bytes], note: Path, sha256: str) -> "hashlib._Hash":
    """The digest of what is there, the file at its end; without a sound note for this sha256 it is emptied."""
    if _validator(note, sha256) is None:
        file.truncate(0)
    digest = hashlib.sha256()
    while chunk := file.read(CHUNK):
        digest.update(chunk)
    return digest


def _ask(url: str, file: IO[bytes], note: Path, timeout: float) -> Answer:
    start = file.tell()
    validator = json.loads(note.read_bytes())["validator"] if start else ""
    answer = ask(url, start=start, validator=validator, timeout=timeout)
    if answer is None:
        answer = ask(url, start=0, validator="", timeout=timeout)
    if answer is None:
        raise UserError(f"{shown(url)}: the server answers with a part of the file that nobody asked for")
    return answer


def _start_anew(file: IO[bytes], note: Path, *, sha256: str, validator: str) -> None:
    # In this order: a note must never speak of a part that is older than itself.
    file.seek(0)
    file.truncate(0)
    note.write_text(json.dumps({"sha256": sha256, "validator": validator}), encoding="utf-8")


def _validator(note: Path, sha256: str) -> str | None:
    try:
        values = json.loads(note.read_bytes())
        return str(values["validator"]) if values["sha256"] == sha256 else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _receive(
    url: str, answer: Answer, file: IO[bytes], digest: "hashlib._Hash", *, most: int, folder: Path
) -> None:
    have, end = answer.start, most if answer.size is None else answer.size
    if end > most:
        raise UserError(
            f"{shown(url)}: the server announces {end} bytes, more than the {most} that are allowed"
        )
    if answer.size is not None:
        check_space(folder, end - have)
    with closing(answer.body), byte_bar(answer.size or 0, desc="download", initial=have) as bar:
        while have < end and (chunk := read_some(url, answer, min(CHUNK, end - have))):
            file.write(chunk)
            digest.update(chunk)
            have += len(chunk)
            bar.update(len(chunk))
    file.flush()
    if answer.size is not None and have < end:
        raise UserError(f"{shown(url)}: the connection broke after {have} of {end} bytes; {RESUMES}")

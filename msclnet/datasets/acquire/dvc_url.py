"""Fetches an archive from the places that DVC reads: s3://, gs://, ssh://, remote://NAME/path and others."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from msclnet.datasets.acquire.address import shown
from msclnet.datasets.acquire.files import exclusive, sha256_of
from msclnet.errors import UserError

STDERR = 2


def fetch_by_dvc(url: str, destination: Path, *, sha256: str) -> Path:
    """Let `dvc get-url` fetch a file, and check it before it gets its name.

    DVC is a program of its own here: its storage back ends are imported by nobody who does not need them. It starts
    anew after an interruption.

    Args:
        url: What `dvc get-url` takes; remote://NAME/path is looked up in the configuration of the present project.
        destination: Its folder is made when missing; a complete file with the right sha256 is not fetched again.
        sha256: 64 hex digits in lower case.

    Returns:
        The destination.

    Raises:
        UserError: DVC could not fetch it, it is no file, or its sha256 is another one.
    """
    if destination.is_file() and sha256_of(destination) == sha256:
        return destination
    destination.parent.mkdir(parents=True, exist_ok=True)
    part = destination.with_name(f"{destination.name}.part")
    arriving = destination.with_name(f"{destination.name}.arriving")
    with exclusive(part):  # only the lock: DVC writes to a file of its own
        try:
            _remove(arriving)
            _get_url(url, arriving)
            if not arriving.is_file():
                raise UserError(f"{shown(url)} is a folder; give the address of one archive")
            found = sha256_of(arriving)
            if found != sha256:
                raise UserError(
                    f"{shown(url)}: the sha256 of what arrived is {found}, expected was {sha256}; what arrived has "
                    "been removed: check the address and the sha256"
                )
            os.replace(arriving, destination)
        finally:
            _remove(arriving)
            part.unlink(missing_ok=True)
    return destination


def _get_url(url: str, target: Path) -> None:
    command = [sys.executable, "-m", "dvc", "get-url", url, str(target)]
    # DVC shows its own bar and, on the same channel, its own message. `run` ends it when this process is told to end.
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=STDERR, check=False)
    if done.returncode:
        raise UserError(
            f"{shown(url)}: `dvc get-url` ended with code {done.returncode} and the message above; check the address, "
            "`dvc remote list` and the rights to read it"
        )


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)

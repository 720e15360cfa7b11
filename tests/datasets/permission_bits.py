"""Permission bits that hold for root as well: children without the privilege to pass over them."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_PR_CAPBSET_DROP = 24
_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH = 1, 2


def obey_permission_bits() -> None:
    """For a child between fork and exec (`preexec_fn`): from then on the kernel refuses root what the bits forbid."""
    if os.geteuid():
        return
    libc = ctypes.CDLL(None, use_errno=True)
    for privilege in (_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH):
        if libc.prctl(_PR_CAPBSET_DROP, privilege, 0, 0, 0):
            raise OSError(ctypes.get_errno(), "prctl(PR_CAPBSET_DROP)")


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Takes the right to write to a folder and all folders below it, for the length of the block."""
    modes = {path: path.stat().st_mode for path in [folder, *folder.rglob("*")] if path.is_dir()}
    for path, mode in modes.items():
        path.chmod(mode & ~0o222)
    try:
        yield
    finally:
        for path, mode in modes.items():
            path.chmod(mode)

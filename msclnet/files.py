"""Files that are whole or not there: written under another name, then renamed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replaced_file(target: Path) -> Iterator[Path]:
    """A path in the same folder to write to. At the end of the block that file takes the place of `target`.

    After an error it is removed and `target` stays as it was. A former `target` is never written to: DVC links
    its cache to the workspace.
    """
    unfinished = target.with_name(f".partial-{target.name}")
    try:
        yield unfinished
        os.replace(unfinished, target)
    finally:
        unfinished.unlink(missing_ok=True)

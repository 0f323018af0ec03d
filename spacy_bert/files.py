"""Writing files so that nobody ever sees half of one."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary file beside `path`, renamed over it when the block ends without an error.

    Raises:
        OSError: if `path` is a directory, or no file can be made there; names it.
    """
    if path.is_dir():
        raise IsADirectoryError(f"{path}: is a directory; name a file")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:  # it names the temporary file
        raise OSError(error.errno, error.strerror, str(path)) from None
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def replacing_directory(path: Path) -> Iterator[Path]:
    """A temporary directory beside `path`, put in its place when the block ends without an error.

    A directory that stood at `path` is deleted then, with all that it holds.
    """
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    old = temporary.with_name(f"{temporary.name}.old")
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        if path.exists():
            path.rename(old)
        temporary.rename(path)
    finally:
        if old.exists() and not path.exists():
            old.rename(path)
        for leftover in (temporary, old):
            shutil.rmtree(leftover, ignore_errors=True)


def check_replaceable(
    output: Path, *, overwrite: bool, marks: Sequence[str], kind: str, source: Path | None = None
) -> None:
    """Refuse to write a directory where something stands that may not be replaced.

    Args:
        output: the directory to be written.
        overwrite: whether something of the same kind may be replaced.
        marks: names of files that a directory of this kind has.
        kind: what it is called.
        source: what is being read, which must not be deleted.

    Raises:
        FileExistsError: says what stands there.
    """
    if not output.exists():
        return
    if not output.is_dir():
        raise FileExistsError(f"{output}: is a file; name a directory")
    if not any(output.iterdir()):
        return
    if not overwrite:
        raise FileExistsError(f"{output}: is not empty; name another, or give --overwrite")
    if source is not None and output.resolve() in (source.resolve(), *source.resolve().parents):
        raise FileExistsError(f"{output}: holds the source itself; name another directory")
    missing = next((name for name in marks if not (output / name).is_file()), None)
    if missing is not None:
        raise FileExistsError(
            f"{output}: holds files but no {missing}: not a {kind} to be replaced; "
            "name another directory"
        )


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask

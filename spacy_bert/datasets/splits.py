"""Tasks whose splits are files of a directory: which ones are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol, TypeVar


class HasFiles(Protocol):
    """A task.

    Attributes:
        files: Names that the file of each split goes by; each may also end in `.gz`.
    """

    @property
    def files(self) -> Mapping[str, Sequence[str]]: ...


Task = TypeVar("Task")


def find_task(tasks: Mapping[str, Task], name: str) -> Task:
    """The task of a name.

    Raises:
        ValueError: If there is none.
    """
    if name not in tasks:
        raise ValueError(f"unknown task {name!r}; known are {', '.join(tasks)}")
    return tasks[name]


def find_files(task: HasFiles, source: Path) -> dict[str, Path]:
    """The files of a task that a directory has, by split.

    Raises:
        ValueError: If it has none, or is no directory.
    """
    wanted = ", ".join(dict.fromkeys(names[0] for names in task.files.values()))
    if not source.is_dir():
        kind = "is a file" if source.exists() else "does not exist"
        raise ValueError(
            f"{source} {kind}: give the directory that holds {wanted} (or .gz of them)"
        )
    found: dict[str, Path] = {}
    for split, names in task.files.items():
        paths = [source / f"{name}{suffix}" for name in names for suffix in ("", ".gz")]
        path = next((path for path in paths if path.is_file()), None)
        if path is not None:
            found[split] = path
    if not found:
        raise ValueError(f"{source} has none of the files {wanted}")
    return found

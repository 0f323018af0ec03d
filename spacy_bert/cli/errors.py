"""How the commands speak of a user's mistake: one line on stderr and exit code 1, no traceback."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn the errors that the library raises for bad input into one line and exit code 1.

    The library raises `ValueError` for bad content, `OSError` for files that it cannot read or
    write and `FloatingPointError` for a loss that is no longer finite. Anything else is a bug of
    ours and keeps its traceback.

    Raises:
        typer.Exit: With code 1, after the message has been printed.
    """
    try:
        yield
    except BrokenPipeError:  # whoever read what we print has read enough: typer ends in silence
        raise
    except (ValueError, OSError, FloatingPointError) as error:
        typer.secho(f"Error: {_say(error)}", fg=typer.colors.RED, err=True)
        raise typer.Exit(1) from error


def _say(error: Exception) -> str:
    """The message; of what the system refused, the file and why, without number."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        return f"{error.filename}: {error.strerror[0].lower()}{error.strerror[1:]}"
    return str(error)

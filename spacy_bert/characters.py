"""Text that is none: JSON can write what no file can hold."""

from __future__ import annotations

import re

# JSON writes characters beyond U+FFFF in two halves; one alone is no character.
_HALF = re.compile("[\ud800-\udfff]")


def is_whole(text: str) -> bool:
    """Whether a text has no half of a character."""
    return _HALF.search(text) is None


def require_whole(text: str, what: str) -> None:
    """Refuse a text with half of a character.

    Args:
        text: what was read.
        what: where it stands, for the error.

    Raises:
        ValueError: names the half.
    """
    half = _HALF.search(text)
    if half is not None:
        raise ValueError(
            f"{what} holds U+{ord(half[0]):04X}, half of a character (a lone surrogate): mend it"
        )

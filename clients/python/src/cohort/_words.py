"""Sentences of the server in Python's words."""

from __future__ import annotations

import re

_ROLE = re.compile(r"(?<![\w-])--(ignore|use|number|category) ('[^']*'|[^\s,;:)]+)")
_OPTION = re.compile(r"(?<![\w-])--([a-z][a-z-]*)")


def plain(text: str) -> str:
    """Options of the command line become parameters: ``--ignore length`` is ``ignore=['length']``, ``--class-weight`` is ``class_weight``."""
    text = _ROLE.sub(lambda found: f"{found[1]}=[{_quoted(found[2])}]", text)
    return _OPTION.sub(lambda found: found[1].replace("-", "_"), text)


def _quoted(word: str) -> str:
    return word if word.startswith("'") else f"'{word}'"

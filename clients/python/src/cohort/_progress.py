"""A training as it goes on, in a notebook, on a terminal, or line by line."""

from __future__ import annotations

import html
import sys
from typing import Any

from ._words import plain


class Progress:
    """Shows the notices of one session."""

    def __init__(self, id: str) -> None:
        self._id = id
        self._progress = 0.0
        self._headline = "waiting for the first round"
        self._display = _notebook()
        self._terminal = self._display is None and sys.stderr.isatty()
        self._said: set[str] = set()
        self._drawn = ""

    def take(self, notice: dict[str, Any]) -> None:
        """A notice of the session."""
        self._progress = max(self._progress, notice.get("progress") or 0)
        if notice["kind"] == "epoch":
            # One line a round is enough where lines stay.
            if self._display is None and not self._terminal:
                return
        elif notice["kind"] == "round":
            self._headline = _round(notice)
        elif notice["kind"] in ("peer", "note"):
            return self.say(notice["message"])
        else:
            self._headline = plain(notice["message"])
        self._draw()

    def say(self, text: str) -> None:
        """A line that stays; each is said once, however often the server repeats it."""
        text = plain(text)
        if text in self._said:
            return
        self._said.add(text)
        if self._display is not None:
            self._headline = text
            return self._draw()
        print(f"\r\x1b[K{text}" if self._terminal else text, file=sys.stderr)

    def end(self, status: dict[str, Any]) -> None:
        """The session is over."""
        self._progress = 1 if status["status"] == "COMPLETED" else self._progress
        self._headline = plain(status.get("error") or status["message"])
        self._draw()
        if self._terminal:
            print(file=sys.stderr)

    def _draw(self) -> None:
        percent = f"{self._progress:.0%}"
        if self._display is not None:
            self._display.update(
                _Text(
                    f"{percent} {self._headline}",
                    f'<progress value="{self._progress:.4f}" max="1" aria-label="training"></progress> {percent} {html.escape(self._headline)}',
                )
            )
        elif self._terminal:
            filled = int(self._progress * 30)
            print(f"\r\x1b[K[{'#' * filled}{'.' * (30 - filled)}] {percent} {self._headline[:100]}", end="", file=sys.stderr, flush=True)
        elif (line := f"{percent} {self._headline}") != self._drawn:
            self._drawn = line
            print(line, file=sys.stderr)


class _Text:
    def __init__(self, plain: str, markup: str) -> None:
        self._plain = plain
        self._markup = markup

    def __repr__(self) -> str:
        return self._plain

    def _repr_html_(self) -> str:
        return self._markup


def _round(notice: dict[str, Any]) -> str:
    text = str(notice["message"])
    if notice.get("validation_loss") is not None:
        text += f", held-out rows: loss {notice['validation_loss']:.4f}"
    if notice.get("validation_accuracy") is not None:
        text += f", accuracy {notice['validation_accuracy']:.1%}"
    elif notice.get("validation_r2") is not None:
        text += f", R² {notice['validation_r2']:.4f}"
    return text


def _notebook() -> Any:
    """A display that can be updated, where this runs in a notebook."""
    if "IPython" not in sys.modules:
        return None
    from IPython import get_ipython
    from IPython.display import display

    shell = get_ipython()
    if shell is None or not hasattr(shell, "kernel"):
        return None
    return display(_Text("", ""), display_id=True)  # type: ignore[no-untyped-call]

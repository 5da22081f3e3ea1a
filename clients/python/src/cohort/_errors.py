"""What can go wrong."""

from __future__ import annotations

from ._words import plain


class CohortError(Exception):
    """The server refused something, or could not be reached; the message says what was wrong and what would be right.

    ``code`` is a word for programs (``invalid``, ``unauthenticated``, ``not_found``, ``conflict``, ``unavailable``,
    ``not_enough_peers``, …), ``status`` the
    HTTP status, 0 when there was no answer.
    """

    def __init__(self, message: str, code: str, status: int = 0) -> None:
        super().__init__(plain(message))
        self.code = code
        self.status = status


class TrainingFailed(CohortError):
    """A session ended without a model: it failed, or was cancelled."""

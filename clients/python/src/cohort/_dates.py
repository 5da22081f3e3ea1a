"""Dates as the server reads them: a column's format, and the numbers that a date has (docs/model-file.md)."""

from __future__ import annotations

import math
import re
from datetime import datetime, timedelta, timezone

_MONTHS = ("january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november", "december")
_TIME = r"(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2})(?:[.,]\d{1,12})?)? {0,3}(?:(?P<half>[AaPp])[Mm]|[+-]\d{1,4}(?::\d{2})?|[Zz]?)"
_AFTER = rf"(?:[ T]{_TIME})?"
_YEAR, _SHORT, _NAME = r"(?P<year>\d{4})", r"(?P<year>\d{4}|\d{2})", r"(?P<name>[A-Za-z]{3,9})"
_FORMATS = {
    "ymd": rf"{_YEAR}(?P<sep>[-/])(?P<month>\d{{1,2}})(?P=sep)(?P<day>\d{{1,2}}){_AFTER}",
    "dmy": rf"(?P<day>\d{{1,2}})(?P<sep>[./-])(?P<month>\d{{1,2}})(?P=sep){_SHORT}{_AFTER}",
    "mdy": rf"(?P<month>\d{{1,2}})/(?P<day>\d{{1,2}})/{_SHORT}{_AFTER}",
    "day-name-year": rf"(?P<day>\d{{1,2}})[ ./-]{{0,3}}{_NAME}[ ./,-]{{0,3}}{_SHORT}{_AFTER}",
    "name-day-year": rf"{_NAME}[ ./-]{{1,3}}(?P<day>\d{{1,2}})[ ./,-]{{1,3}}{_SHORT}{_AFTER}",
    "name-year": rf"{_NAME}[ ./,-]{{1,3}}{_YEAR}",
    "year-name": rf"{_YEAR}[ ./-]{{1,3}}{_NAME}",
    "year-quarter": rf"{_YEAR}(?:[ :-]{{1,3}}[Qq]?|[Qq])(?P<quarter>[1-4])",
    "year-month": rf"{_YEAR}[-/:Mm](?P<month>\d{{1,2}})",
    "time": _TIME,
    "compact": r"(?P<year>\d{4})(?P<month>\d{2})(?P<day>\d{2})",
    "yymmdd": r"(?P<year>\d{2})(?P<month>\d{2})(?P<day>\d{2})",
}
_PATTERNS = {name: re.compile(pattern, re.ASCII) for name, pattern in _FORMATS.items()}
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def read(text: str, format: str) -> datetime | None:
    """A date as ``format`` writes it, in no time zone; None when it is none, or no day that there is."""
    if format in ("epoch-seconds", "epoch-milliseconds"):
        try:
            seconds = float(text) / (1 if format == "epoch-seconds" else 1_000)
        except ValueError:
            return None
        return (_EPOCH + timedelta(seconds=math.floor(seconds))).replace(tzinfo=None) if -2.3e9 <= seconds <= 7.3e9 else None
    found = _PATTERNS[format].fullmatch(text) if format in _PATTERNS else None
    if found is None:
        return None
    parts = found.groupdict()
    year = int(parts.get("year") or 1970)
    if len(parts.get("year") or "1970") == 2:
        year += 1900 if year >= 69 else 2000
    month = int(parts.get("month") or 1)
    if name := parts.get("name"):
        months = [index for index, whole in enumerate(_MONTHS, 1) if name.lower() in (whole, whole[:3]) or (name.lower() == "sept" and index == 9)]
        if not months:
            return None
        month = months[0]
    if quarter := parts.get("quarter"):
        month = 3 * int(quarter) - 2
    hour, minute = int(parts.get("hour") or 0), int(parts.get("minute") or 0)
    if half := parts.get("half"):
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + (12 if half in "Pp" else 0)
    try:
        # 24:00 is an hour as it is written.
        return datetime(year, month, int(parts.get("day") or 1), min(hour, 23), minute) if hour <= 24 else None
    except ValueError:
        return None


def part(date: datetime, name: str) -> float:
    """A number of a date, by its name in the schema."""
    angle = 2 * math.pi * (date.timetuple().tm_yday - 1) / 365.25
    return {
        "year": float(date.year),
        "month": float(date.month),
        "weekday": float(date.isoweekday()),
        "year_day_sin": math.sin(angle),
        "year_day_cos": math.cos(angle),
        "hour": float(date.hour),
        "minute": float(date.minute),
    }[name]

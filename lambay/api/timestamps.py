"""Timestamps on the wire: epoch seconds, ISO 8601 and the HTTP date of RFC 9110 section 5.6.7."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime


def parse(value: object) -> datetime:
    """An aware UTC datetime from epoch seconds (number or text), ISO 8601 or an HTTP date.

    Raises ValueError.
    """
    try:
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            return datetime.fromtimestamp(value, UTC)
        if not isinstance(value, str):
            raise ValueError(value)
        text = value.strip()
        if text[:1].isalpha():
            moment = parsedate_to_datetime(text)
        elif "-" in text[1:] or ":" in text:
            moment = datetime.fromisoformat(text.replace("z", "Z"))
        else:
            return datetime.fromtimestamp(float(text), UTC)
    except (ValueError, OverflowError, OSError, TypeError) as error:
        raise ValueError(f"not a timestamp: {value!r}") from error
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def epoch(moment: datetime | float) -> float | int:
    """Seconds since the epoch with milliseconds where there are any."""
    seconds = _aware(moment).timestamp() if isinstance(moment, datetime) else moment
    rounded = round(seconds, 3)
    return int(rounded) if rounded == int(rounded) else rounded


def iso8601(moment: datetime | float) -> str:
    """`2024-01-31T12:00:00Z`, or with milliseconds where there are any."""
    at = _aware(moment)
    precision = "milliseconds" if at.microsecond >= 1000 else "seconds"
    return at.replace(tzinfo=None).isoformat(timespec=precision) + "Z"


def http_date(moment: datetime | float) -> str:
    """`Wed, 31 Jan 2024 12:00:00 GMT`."""
    return format_datetime(_aware(moment).replace(microsecond=0), usegmt=True)


def render(moment: datetime | float, form: str) -> str | float | int:
    """As the model's `timestampFormat` says: unixTimestamp, iso8601 or rfc822."""
    match form.lower():
        case "iso8601":
            return iso8601(moment)
        case "rfc822":
            return http_date(moment)
        case _:
            return epoch(moment)


def _aware(moment: datetime | float) -> datetime:
    if not isinstance(moment, datetime):
        return datetime.fromtimestamp(moment, UTC)
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)

"""When schedules are due."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from lambay.functions.schedule_expression import parse

# A Wednesday.
SINCE = datetime(2026, 7, 15, 10, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment", "expected"),
    [
        ("rate(1 minute)", "2026-07-15T10:30:00", "2026-07-15T10:31:00"),
        ("rate(5 minutes)", "2026-07-15T10:36:00", "2026-07-15T10:40:00"),
        ("rate(1 day)", "2026-07-20T09:00:00", "2026-07-20T10:30:00"),
        ("cron(0 12 * * ? *)", "2026-07-15T12:00:00", "2026-07-16T12:00:00"),
        ("cron(15 10 * * ? *)", "2026-07-15T10:14:59", "2026-07-15T10:15:00"),
        ("cron(0/15 * * * ? *)", "2026-07-15T10:31:00", "2026-07-15T10:45:00"),
        ("cron(0 18 ? * MON-FRI *)", "2026-07-17T18:00:00", "2026-07-20T18:00:00"),
        ("cron(0 8 1 * ? *)", "2026-12-01T08:00:00", "2027-01-01T08:00:00"),
        ("cron(0/10 8-17 ? * 2-6 *)", "2026-07-17T17:50:00", "2026-07-20T08:00:00"),
        ("cron(0 0 L * ? *)", "2026-02-01T00:00:00", "2026-02-28T00:00:00"),
        ("cron(0 0 LW * ? *)", "2026-05-01T00:00:00", "2026-05-29T00:00:00"),
        ("cron(0 0 15W * ? *)", "2026-08-01T00:00:00", "2026-08-14T00:00:00"),
        ("cron(0 0 1W * ? *)", "2026-07-20T00:00:00", "2026-08-03T00:00:00"),
        ("cron(0 9 ? * 3#2 *)", "2026-07-15T00:00:00", "2026-08-11T09:00:00"),
        ("cron(0 9 ? * 6L *)", "2026-07-15T00:00:00", "2026-07-31T09:00:00"),
        ("cron(0 9 ? * L *)", "2026-07-15T00:00:00", "2026-07-18T09:00:00"),
        ("cron(0 0 29 2 ? *)", "2026-07-15T00:00:00", "2028-02-29T00:00:00"),
        ("cron(0 0 1 JAN,JUL ? 2026-2028)", "2026-07-15T00:00:00", "2027-01-01T00:00:00"),
        ("cron(0 0 ? * SAT-MON *)", "2026-07-15T00:00:00", "2026-07-18T00:00:00"),
        ("cron(0 0 1 1 ? 2020)", "2026-07-15T00:00:00", None),
    ],
)
def test_what_is_due_next(text: str, moment: str, expected: str | None) -> None:
    found = parse(text).next_after(datetime.fromisoformat(moment).replace(tzinfo=UTC), SINCE)
    assert (found and found.strftime("%Y-%m-%dT%H:%M:%S")) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "rate(0 minutes)",
        "rate(1 minutes)",
        "rate(2 minute)",
        "rate(1 week)",
        "cron(0 0 * * * *)",
        "cron(0 0 ? * ? *)",
        "cron(0 0 * * ?)",
        "cron(60 0 * * ? *)",
        "cron(0 0 ? * 8 *)",
        "cron(0 0 ? * 2#6 *)",
        "cron(x 0 * * ? *)",
        "cron(0/0 0 * * ? *)",
    ],
)
def test_what_is_no_schedule(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - int raises it with texts of its own
        parse(text)

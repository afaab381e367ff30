"""The tables of metrics.db. Each function runs inside one transaction.

What was put lately are rows of `points`; an hour later they move to `chunks`, and from there, as they age, to
points of a coarser resolution. Points of one series, resolution and time add up, wherever they lie.
"""

from __future__ import annotations

import itertools
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence

from lambay.observe.metrics import chunks
from lambay.observe.metrics.points import Point, restored, stored
from lambay.observe.metrics.records import Datum, Metric, dimensions_text, parse_dimensions

MIGRATIONS = (
    """
    CREATE TABLE series (
        id INTEGER PRIMARY KEY,
        account TEXT NOT NULL,
        region TEXT NOT NULL,
        namespace TEXT NOT NULL,
        name TEXT NOT NULL,
        dimensions TEXT NOT NULL,
        unit TEXT NOT NULL,
        last_at INTEGER NOT NULL,
        UNIQUE (account, region, namespace, name, dimensions, unit)
    );
    CREATE TABLE points (
        series INTEGER NOT NULL,
        resolution INTEGER NOT NULL,
        at INTEGER NOT NULL,
        count REAL NOT NULL,
        sum REAL NOT NULL,
        minimum REAL NOT NULL,
        maximum REAL NOT NULL,
        distribution BLOB,
        PRIMARY KEY (series, resolution, at)
    ) WITHOUT ROWID;
    CREATE TABLE chunks (
        series INTEGER NOT NULL,
        resolution INTEGER NOT NULL,
        start INTEGER NOT NULL,
        body BLOB NOT NULL,
        PRIMARY KEY (series, resolution, start)
    ) WITHOUT ROWID;
    CREATE TABLE alarm_history (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        account TEXT NOT NULL,
        region TEXT NOT NULL,
        alarm TEXT NOT NULL,
        type TEXT NOT NULL,
        item TEXT NOT NULL,
        at REAL NOT NULL,
        summary TEXT NOT NULL,
        body TEXT NOT NULL
    );
    CREATE INDEX alarm_history_by_time ON alarm_history (account, region, at)
    """,
)

DAY = 86_400
KEPT = {1: 3 * 3600, 60: 15 * DAY, 300: 63 * DAY, 3600: 455 * DAY}
"""For how many seconds data of each resolution is kept; then it goes on as the next coarser one."""

COARSER = {1: 60, 60: 300, 300: 3600}
OPEN = {1: 900, 60: 3600, 300: 3600, 3600: 3600}
"""How long points stay rows, which more of the same minute are added to cheaply."""

_ROWS_A_STATEMENT = 400
_LAST_AT_STEP = 300

SeriesIds = dict[tuple[Metric, str], list[int]]
"""Id and latest second of a series, by metric and unit: what the writing thread knows."""

_UPSERT = (
    " ON CONFLICT (series, resolution, at) DO UPDATE SET "
    "distribution = merged(count, sum, minimum, maximum, distribution, excluded.count, excluded.sum, "
    "excluded.minimum, excluded.maximum, excluded.distribution), "
    "count = count + excluded.count, sum = sum + excluded.sum, "
    "minimum = min(minimum, excluded.minimum), maximum = max(maximum, excluded.maximum)"
)


def prepare(connection: sqlite3.Connection) -> None:
    """What a connection that writes needs."""
    connection.create_function("merged", 10, _merged, deterministic=True)


def _merged(*parts: float | bytes | None) -> bytes | None:
    one, other = restored(*parts[:5]), restored(*parts[5:])  # type: ignore[arg-type]
    one.merge(other)
    return stored(one)


def insert(connection: sqlite3.Connection, data: Sequence[Datum], known: SeriesIds) -> None:
    """Add `data` to what is there; `at` is cut to the datum's resolution."""
    points: dict[tuple[int, int, int], Point] = {}
    for datum in data:
        at = datum.at - datum.at % datum.resolution
        key = (_series(connection, datum, known), datum.resolution, at)
        there = points.get(key)
        if there is None:
            points[key] = datum.point.copy()
        else:
            there.merge(datum.point)
    _write(connection, points.items())


def _write(connection: sqlite3.Connection, points: Iterable[tuple[tuple[int, int, int], Point]]) -> None:
    rows = iter(points)
    while batch := list(itertools.islice(rows, _ROWS_A_STATEMENT)):
        values: list[object] = []
        for key, point in batch:
            values += (*key, point.count, point.sum, point.minimum, point.maximum, stored(point))
        places = ",".join(itertools.repeat("(?,?,?,?,?,?,?,?)", len(batch)))
        connection.execute(f"INSERT INTO points VALUES {places}{_UPSERT}", values)


def _series(connection: sqlite3.Connection, datum: Datum, known: SeriesIds) -> int:
    key = (datum.metric, datum.unit)
    found = known.get(key)
    if found is None:
        metric = datum.metric
        identity = (
            metric.account,
            metric.region,
            metric.namespace,
            metric.name,
            dimensions_text(metric.dimensions),
            datum.unit,
        )
        row = connection.execute(
            "INSERT INTO series (account, region, namespace, name, dimensions, unit, last_at) "
            "VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET last_at = max(last_at, excluded.last_at) "
            "RETURNING id, last_at",
            (*identity, datum.at),
        ).fetchone()
        found = known[key] = list(row)
    elif datum.at >= found[1] + _LAST_AT_STEP:
        found[1] = datum.at
        connection.execute("UPDATE series SET last_at = ? WHERE id = ?", (datum.at, found[0]))
    return found[0]


def series_of(connection: sqlite3.Connection, metric: Metric) -> list[tuple[int, str]]:
    """Id and unit of each series of a metric."""
    rows = connection.execute(
        "SELECT id, unit FROM series WHERE account = ? AND region = ? AND namespace = ? AND name = ? "
        "AND dimensions = ?",
        (
            metric.account,
            metric.region,
            metric.namespace,
            metric.name,
            dimensions_text(metric.dimensions),
        ),
    )
    return [(number, unit) for number, unit in rows]


def metrics_of(
    connection: sqlite3.Connection,
    account: str,
    region: str,
    *,
    since: int,
    namespace: str | None = None,
    name: str | None = None,
    after: tuple[str, str, str] = ("", "", ""),
) -> Iterator[Metric]:
    """Metrics that had data since then, in the order of namespace, name and dimensions, behind `after`."""
    query = (
        "SELECT namespace, name, dimensions FROM series WHERE account = ? AND region = ? "
        "AND (namespace, name, dimensions) > (?, ?, ?)"
    )
    given: list[object] = [account, region, *after]
    for column, value in (("namespace", namespace), ("name", name)):
        if value is not None:
            query += f" AND {column} = ?"
            given.append(value)
    query += " GROUP BY namespace, name, dimensions HAVING max(last_at) + ? > ? ORDER BY namespace, name, dimensions"
    for found in connection.execute(query, (*given, _LAST_AT_STEP, since)):
        yield Metric(account, region, found[0], found[1], parse_dimensions(found[2]))


def metrics_everywhere(connection: sqlite3.Connection, namespace: str, name: str, since: int) -> list[Metric]:
    """The metrics of a name in every account and Region that had data since then."""
    rows = connection.execute(
        "SELECT DISTINCT account, region, dimensions FROM series "
        "WHERE namespace = ? AND name = ? AND last_at + ? > ?",
        (namespace, name, _LAST_AT_STEP, since),
    )
    return [
        Metric(account, region, namespace, name, parse_dimensions(text)) for account, region, text in rows
    ]


Plain = tuple[int, float, float, float, float]
"""Second, count, sum, minimum, maximum."""


def read_plain(
    connection: sqlite3.Connection, series: int, start: int, end: int, coarsest: int
) -> Iterator[Plain]:
    """`read` without distributions."""
    for resolution, begin, body in _chunks(connection, series, start, end, coarsest):
        inside = start <= begin and begin + chunks.SPANS[resolution] <= end
        points = chunks.plain(body, begin, resolution)
        yield from points if inside else (point for point in points if start <= point[0] < end)
    yield from connection.execute(
        "SELECT at, count, sum, minimum, maximum FROM points "
        "WHERE series = ? AND resolution <= ? AND at >= ? AND at < ?",
        (series, coarsest, start, end),
    )


def read(
    connection: sqlite3.Connection, series: int, start: int, end: int, coarsest: int
) -> Iterator[tuple[int, Point]]:
    """Points from `start` until before `end`, none coarser than `coarsest` seconds; several may have one time.

    Those that belong to one period of `coarsest` seconds from `start` on may come together.
    """
    whole_hours = start % chunks.HOUR == coarsest % chunks.HOUR == 0
    for resolution, begin, body in _chunks(connection, series, start, end, coarsest):
        inside = start <= begin and begin + chunks.SPANS[resolution] <= end
        together = chunks.hours(body, begin) if whole_hours and inside else None
        if together is not None:
            yield from together
            continue
        for at, point in chunks.unpack(body, begin, resolution):
            if start <= at < end:
                yield at, point
    rows = connection.execute(
        "SELECT at, count, sum, minimum, maximum, distribution FROM points "
        "WHERE series = ? AND resolution <= ? AND at >= ? AND at < ?",
        (series, coarsest, start, end),
    )
    for at, *parts in rows:
        yield at, restored(*parts)


def _chunks(
    connection: sqlite3.Connection, series: int, start: int, end: int, coarsest: int
) -> Iterator[tuple[int, int, bytes]]:
    """Resolution, start and body of the chunks that have points of that time."""
    for resolution, span in chunks.SPANS.items():
        if resolution > coarsest:
            break
        for begin, body in connection.execute(
            "SELECT start, body FROM chunks WHERE series = ? AND resolution = ? AND start > ? AND start < ?",
            (series, resolution, start - span, end),
        ):
            yield resolution, begin, body


def seal(
    connection: sqlite3.Connection, resolution: int, now: int, limit: int, from_series: int
) -> int | None:
    """Move up to `limit` points that have become old to chunks; the series to go on with, None at the end."""
    rows = connection.execute(
        "SELECT series, at, count, sum, minimum, maximum, distribution FROM points "
        "WHERE series >= ? AND resolution = ? AND at < ? ORDER BY series LIMIT ?",
        (from_series, resolution, now - OPEN[resolution], limit),
    ).fetchall()
    span = chunks.SPANS[resolution]
    moved: defaultdict[tuple[int, int], dict[int, Point]] = defaultdict(dict)
    for series, at, *parts in rows:
        moved[series, at - at % span][at] = restored(*parts)
    for (series, start), points in moved.items():
        _seal_chunk(connection, series, resolution, start, points)
    connection.executemany(
        "DELETE FROM points WHERE series = ? AND resolution = ? AND at = ?",
        [(series, resolution, at) for series, at, *_ in rows],
    )
    return int(rows[-1][0]) if len(rows) == limit else None


def _seal_chunk(
    connection: sqlite3.Connection, series: int, resolution: int, start: int, points: dict[int, Point]
) -> None:
    key = (series, resolution, start)
    row = connection.execute(
        "SELECT body FROM chunks WHERE series = ? AND resolution = ? AND start = ?", key
    ).fetchone()
    if row is not None:
        for at, point in chunks.unpack(row[0], start, resolution):
            if at in points:
                points[at].merge(point)
            else:
                points[at] = point
    connection.execute(
        "INSERT OR REPLACE INTO chunks VALUES (?, ?, ?, ?)", (*key, chunks.pack(points, start, resolution))
    )


def roll_up(connection: sqlite3.Connection, resolution: int, now: int, limit: int) -> bool:
    """Make up to `limit` chunks that are too old coarser, or forget them; whether there may be more."""
    due = connection.execute(
        "SELECT series, start, body FROM chunks WHERE resolution = ? AND start < ? LIMIT ?",
        (resolution, now - KEPT[resolution] - chunks.SPANS[resolution], limit),
    ).fetchall()
    coarser = COARSER.get(resolution, 0)
    merged: dict[tuple[int, int, int], Point] = {}
    for series, start, body in due if coarser else ():
        for at, point in chunks.unpack(body, start, resolution):
            key = (series, coarser, at - at % coarser)
            if key in merged:
                merged[key].merge(point)
            else:
                merged[key] = point
    _write(connection, merged.items())
    connection.executemany(
        "DELETE FROM chunks WHERE series = ? AND resolution = ? AND start = ?",
        [(series, resolution, start) for series, start, _ in due],
    )
    return len(due) == limit


def forget_series(connection: sqlite3.Connection, now: int, forgotten: Callable[[], None]) -> None:
    """Drop the series that have had no data for 455 days, and history older than 30 days."""
    gone = connection.execute("DELETE FROM series WHERE last_at < ?", (now - KEPT[3600] - DAY,)).rowcount
    if gone:
        forgotten()
    connection.execute("DELETE FROM alarm_history WHERE at < ?", (now - 30 * DAY,))


def clear(connection: sqlite3.Connection) -> None:
    """Forget everything."""
    for table in ("series", "points", "chunks", "alarm_history"):
        connection.execute(f"DELETE FROM {table}")

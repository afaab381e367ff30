"""`lambay top`: file systems, functions and execution environments, live in the terminal."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from typing import Any

from lambay.cli.endpoint import CommandError, add_endpoint, ask, lines

PAGE = "/_lambay/live"


def add_to(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = verbs.add_parser("top", help="watch file systems, functions and environments")
    parser.add_argument("--once", action="store_true", help="print what happens now, and end")
    parser.add_argument("--json", action="store_true", help="JSON lines instead of a screen, one each 5 s")
    add_endpoint(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    if options.json:
        views: Iterator[Any] | list[Any] = (
            [ask(options, "GET", PAGE)] if options.once else lines(options, f"{PAGE}?follow=1")
        )
        for view in views:
            print(json.dumps(view), flush=True)
        return 0
    if options.once:
        _print(ask(options, "GET", PAGE))
        return 0
    # Textual takes a while to import, and no other command needs it.
    from lambay.cli.screen import Screen

    # Before the screen is taken over: an error is readable then.
    ask(options, "GET", PAGE)
    screen = Screen(options.endpoint, lambda: lines(options, f"{PAGE}?follow=1"))
    screen.run()
    if screen.lost:
        raise CommandError(screen.lost)
    return 0


Row = dict[str, Any]
Columns = tuple[tuple[str, Callable[[Row], str]], ...]


def amount(value: float | None) -> str:
    """Bytes in the largest unit that leaves a whole part."""
    if value is None:
        return "–"
    units = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
    step = min(len(units) - 1, max(0, (int(abs(value)).bit_length() - 1) // 10))
    return f"{value / 1024**step:.{1 if step else 0}f} {units[step]}"


def span(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def _milliseconds(value: float | None) -> str:
    return "–" if value is None else f"{value:,.1f} ms"


def _rate(value: float) -> str:
    return f"{value:,.1f}" if value else "0"


FILE_SYSTEMS: Columns = (
    ("File system", lambda row: row["name"] or row["id"]),
    ("Mode", lambda row: row["mode"]),
    ("Read/s", lambda row: amount(row["read_bytes_per_s"])),
    ("Write/s", lambda row: amount(row["write_bytes_per_s"])),
    ("Metadata/s", lambda row: _rate(row["metadata_per_s"])),
    ("Permitted/s", lambda row: amount(row["permitted_bytes_per_s"])),
    ("Credits", lambda row: amount(row["credits"])),
    ("Last for", lambda row: span(row["credits_last_s"])),
    ("I/O limit", lambda row: f"{row['percent_io_limit']:.0f} %"),
    ("Clients", lambda row: str(row["connections"])),
    ("Locks", lambda row: str(row["locks"])),
    ("Size", lambda row: amount(row["bytes"])),
)
FUNCTIONS: Columns = (
    ("Function", lambda row: row["name"]),
    ("Inv/s", lambda row: _rate(row["invocations_per_s"])),
    ("Err/s", lambda row: _rate(row["errors_per_s"])),
    ("429/s", lambda row: _rate(row["throttles_per_s"])),
    ("Cold/s", lambda row: _rate(row["cold_starts_per_s"])),
    ("p50", lambda row: _milliseconds(row["p50_ms"])),
    ("p99", lambda row: _milliseconds(row["p99_ms"])),
    ("Busy", lambda row: str(row["busy"])),
    ("Idle", lambda row: str(row["idle"])),
    ("Invocations", lambda row: f"{row['invocations']:,}"),
    ("Errors", lambda row: f"{row['errors']:,}"),
)
ENVIRONMENTS: Columns = (
    ("Environment", lambda row: row["id"][:12]),
    ("Function", lambda row: row["function"]),
    ("Version", lambda row: row["version"]),
    ("State", lambda row: row["state"]),
    ("Age", lambda row: span(row["age_s"])),
    ("Invocations", lambda row: f"{row['invocations']:,}"),
    ("Memory", lambda row: amount(row["memory_bytes"])),
    ("Mount", lambda row: row["mount"] or "–"),
)
SECTIONS: tuple[tuple[str, str, Columns], ...] = (
    ("File systems", "file_systems", FILE_SYSTEMS),
    ("Functions", "functions", FUNCTIONS),
    ("Environments", "environments", ENVIRONMENTS),
)


def busiest(section: str, rows: list[Row]) -> list[Row]:
    """The order in which rows are shown: what works most comes first."""
    match section:
        case "functions":
            return sorted(rows, key=lambda row: (-row["invocations_per_s"], -row["invocations"], row["name"]))
        case "file_systems":
            return sorted(rows, key=lambda row: (-row["metered_bytes_per_s"], row["name"], row["id"]))
        case _:
            return sorted(rows, key=lambda row: (row["function"], row["id"]))


def _print(view: dict[str, Any]) -> None:
    for title, section, columns in SECTIONS:
        rows = [[cell(row) for _, cell in columns] for row in busiest(section, view[section])]
        print(f"{title}: {len(rows)}")
        if not rows:
            continue
        table = [[name for name, _ in columns], *rows]
        widths = [max(len(row[at]) for row in table) for at in range(len(columns))]
        for row in table:
            print(
                "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            )

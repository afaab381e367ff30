"""`lambay top` draws what the live view says."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from textual.widgets import DataTable, Input, Static

from lambay.cli.screen import Screen
from lambay.cli.top import amount, span


def file_system(name: str, **values: Any) -> dict[str, Any]:
    return {
        "id": f"fs-{name}",
        "name": name,
        "mode": "bursting",
        "read_bytes_per_s": 0.0,
        "write_bytes_per_s": 0.0,
        "metadata_per_s": 0.0,
        "metered_bytes_per_s": 0.0,
        "permitted_bytes_per_s": None,
        "credits": None,
        "credits_last_s": None,
        "percent_io_limit": 0.0,
        "connections": 0,
        "locks": 0,
        "bytes": 0,
    } | values


def function(name: str, **values: Any) -> dict[str, Any]:
    return {
        "name": name,
        "invocations_per_s": 0.0,
        "errors_per_s": 0.0,
        "throttles_per_s": 0.0,
        "cold_starts_per_s": 0.0,
        "p50_ms": None,
        "p99_ms": None,
        "busy": 0,
        "idle": 0,
        "invocations": 0,
        "errors": 0,
    } | values


def view(**sections: Any) -> dict[str, Any]:
    return {"at_ms": 1_800_000_000_000, "file_systems": [], "functions": [], "environments": []} | sections


class Feed:
    """Views handed to the screen one by one; `drawn` tells that the last one is on it."""

    def __init__(self, *views: dict[str, Any]) -> None:
        self.views = list(views)
        self.end = threading.Event()

    def __call__(self) -> Iterator[dict[str, Any]]:
        yield from self.views
        self.end.wait(60)


async def rows(pilot: Any, section: str, count: int) -> list[list[str]]:
    table = pilot.app.query_one(f"#{section}", DataTable)
    async with asyncio.timeout(60):
        while table.row_count != count:
            await pilot.pause()
    return [[str(cell) for cell in table.get_row_at(at)] for at in range(count)]


async def test_rows_are_what_the_server_says_the_busiest_first() -> None:
    feed = Feed(
        view(
            file_systems=[
                file_system("quiet"),
                file_system("loud", metered_bytes_per_s=9.0, credits=2.1 * 1024**4),
            ],
            functions=[
                function("idle"),
                function("busy", invocations_per_s=12.5, p50_ms=2.25, invocations=1234),
            ],
        )
    )
    async with Screen("http://here", feed).run_test(size=(160, 40)) as pilot:
        file_systems = await rows(pilot, "file-systems", 2)
        functions = await rows(pilot, "functions", 2)
        assert [row[0] for row in file_systems] == ["loud", "quiet"]
        assert file_systems[0][6] == "2.1 TiB"
        assert functions[0][:2] == ["busy", "12.5"]
        assert "2.2 ms" in functions[0][5]
        assert functions[0][9] == "1,234"
        assert "12.5 invocations/s" in str(pilot.app.query_one("#summary", Static).render())
    feed.end.set()


async def test_the_filter_leaves_what_has_the_word_in_its_name() -> None:
    feed = Feed(view(functions=[function("thumbnails"), function("semantic-search")]))
    async with Screen("http://here", feed).run_test(size=(160, 40)) as pilot:
        await rows(pilot, "functions", 2)
        await pilot.press("slash", *"thumb")
        assert pilot.app.query_one("#filter", Input).value == "thumb"
        assert [row[0] for row in await rows(pilot, "functions", 1)] == ["thumbnails"]
        await pilot.press("escape")
        await rows(pilot, "functions", 2)
    feed.end.set()


async def test_a_long_name_is_cut_and_found_whole() -> None:
    name = "inference-of-the-large-language-model-v2"
    feed = Feed(view(functions=[function(name), function("thumbnails")]))
    async with Screen("http://here", feed).run_test(size=(160, 40)) as pilot:
        assert (await rows(pilot, "functions", 2))[0][0] == "inference-of-the-large-lang…"
        await pilot.press("slash", *"model-v2")
        assert len(await rows(pilot, "functions", 1)) == 1
    feed.end.set()


async def test_a_pause_keeps_what_is_shown() -> None:
    feed = Feed(view(functions=[function("first")]))
    screen = Screen("http://here", feed)
    async with screen.run_test(size=(160, 40)) as pilot:
        await rows(pilot, "functions", 1)
        await pilot.press("p")
        screen.show(view(functions=[function("first"), function("second")]))
        assert len(await rows(pilot, "functions", 1)) == 1
        assert "PAUSED" in str(pilot.app.query_one("#summary", Static).render())
        await pilot.press("p")
        screen.show(view(functions=[function("first"), function("second")]))
        await rows(pilot, "functions", 2)
    feed.end.set()


async def test_the_end_of_the_server_is_the_end_of_the_screen_and_says_so() -> None:
    feed = Feed(view())
    screen = Screen("http://here", feed)
    async with screen.run_test() as pilot:
        await pilot.pause()
        feed.end.set()
        async with asyncio.timeout(60):
            while screen.is_running and not screen.lost:
                await pilot.pause()
    assert screen.lost == "the server at http://here has ended"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "–"),
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (5.5 * 1024**3, "5.5 GiB"),
        (1024**6, "1024.0 PiB"),
    ],
)
def test_amounts(value: float | None, words: str) -> None:
    assert amount(value) == words


@pytest.mark.parametrize(
    ("seconds", "words"), [(None, "–"), (40, "40 s"), (90, "1.5 min"), (86400 * 3, "3.0 d")]
)
def test_spans(seconds: float | None, words: str) -> None:
    assert span(seconds) == words

"""The screen of `lambay top`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, ClassVar

from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.widgets import DataTable, Footer, Input, Static

from lambay.cli.endpoint import CommandError
from lambay.cli.top import SECTIONS, amount, busiest

Views = Callable[[], Iterator[dict[str, Any]]]

_LONGEST = 28


class Screen(App[None]):
    """Three tables that follow the server's live view. `lost` says why the view ended, if it did."""

    CSS = """
    #summary { height: 1; background: $primary; color: $text; padding: 0 1; }
    .section { height: auto; max-height: 40%; border: round $panel; border-title-color: $accent; }
    .section DataTable { height: auto; max-height: 100%; }
    #environments-section { max-height: 1fr; height: 1fr; }
    #filter { display: none; dock: bottom; }
    #filter.shown { display: block; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "Quit"),
        Binding("/", "find", "Filter"),
        Binding("escape", "clear", "All", show=False),
        Binding("p", "pause", "Pause"),
    ]

    def __init__(self, endpoint: str, views: Views) -> None:
        super().__init__()
        self.lost = ""
        self._endpoint = endpoint
        self._views = views
        self._paused = False
        self._wanted = ""
        self._view: dict[str, Any] | None = None

    def compose(self) -> ComposeResult:
        yield Static(f"Lambay at {self._endpoint}", id="summary", markup=False)
        for title, section, _ in SECTIONS:
            with Vertical(id=f"{section.replace('_', '-')}-section", classes="section") as box:
                box.border_title = title
                yield DataTable(id=section.replace("_", "-"), cursor_type="row", zebra_stripes=True)
        yield Input(placeholder="function or file system", id="filter")
        yield Footer()

    def on_mount(self) -> None:
        for _, section, columns in SECTIONS:
            table = self._table(section)
            for name, _cell in columns:
                table.add_column(name, key=name)
        self._table("functions").focus()
        # A daemon: it waits for the server, and nobody waits for it.
        threading.Thread(target=self._follow, daemon=True).start()

    def action_find(self) -> None:
        box = self.query_one("#filter", Input)
        box.add_class("shown")
        box.focus()

    def action_clear(self) -> None:
        box = self.query_one("#filter", Input)
        box.value = ""
        box.remove_class("shown")
        self._table("functions").focus()

    def action_pause(self) -> None:
        self._paused = not self._paused
        self._draw()

    def on_input_changed(self, event: Input.Changed) -> None:
        self._wanted = event.value.lower()
        self._draw()

    def on_input_submitted(self) -> None:
        self._table("functions").focus()

    def show(self, view: dict[str, Any]) -> None:
        """Draw a view, unless the screen is paused."""
        if not self._paused:
            self._view = view
            self._draw()

    def _follow(self) -> None:
        """In a thread: the views, until the server or this program ends."""
        try:
            for view in self._views():
                if not self.is_running:
                    return
                self.call_from_thread(self.show, view)
            self.lost = f"the server at {self._endpoint} has ended"
        except (CommandError, OSError) as error:
            self.lost = str(error)
        if self.is_running:
            self.call_from_thread(self.exit)

    def _table(self, section: str) -> DataTable[str]:
        return self.query_one(f"#{section.replace('_', '-')}", DataTable)

    def _draw(self) -> None:
        view = self._view
        if view is None:
            return
        for title, section, columns in SECTIONS:
            rows = [row for row in busiest(section, view[section]) if self._wanted in _named(row)]
            table = self._table(section)
            kept = table.cursor_row
            table.clear()
            for row in rows:
                table.add_row(*(_short(cell(row)) for _, cell in columns))
            if rows:
                table.move_cursor(row=min(kept, len(rows) - 1))
            box = self.query_one(f"#{section.replace('_', '-')}-section")
            box.border_title = f"{title} ({len(rows)})"
        self.query_one("#summary", Static).update(_summary(view, self._endpoint, self._paused))


def _short(text: str) -> str:
    """Long names would push out of sight what is done under them; the filter knows them whole."""
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def _named(row: dict[str, Any]) -> str:
    return " ".join(str(row.get(name) or "") for name in ("name", "id", "function")).lower()


def _summary(view: dict[str, Any], endpoint: str, paused: bool) -> str:
    def total(section: str, name: str) -> float:
        return sum(row[name] or 0 for row in view[section])

    words = [
        f"Lambay at {endpoint}",
        datetime.fromtimestamp(view["at_ms"] / 1000).strftime("%H:%M:%S"),
        f"{total('functions', 'invocations_per_s'):,.1f} invocations/s",
        f"{total('functions', 'errors_per_s'):,.1f} errors/s",
        f"{amount(total('file_systems', 'read_bytes_per_s'))}/s read",
        f"{amount(total('file_systems', 'write_bytes_per_s'))}/s written",
    ]
    if paused:
        words.append("PAUSED")
    return "  ·  ".join(words)

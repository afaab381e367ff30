"""The log of one environment: what its processes write and Lambda's own lines, in order, on their way out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from lambay.clock import Clock
from lambay.runtime.log_shipping import LogShipping, Stream
from lambay.runtime.output import Output

_SHIP_AFTER = 0.1
_TAIL_BYTES = 4096


class EnvironmentLog:
    """Events wait while an invocation runs, for a tenth of a second at most, to be shipped all at once."""

    def __init__(self, stream: Stream, clock: Clock, shipping: LogShipping) -> None:
        self._stream = stream
        self._clock = clock
        self._shipping = shipping
        self._sources: dict[int, tuple[Output, Callable[[str], None]]] = {}
        self._events: list[tuple[int, str]] = []
        self._due: asyncio.TimerHandle | None = None
        self._invoking = False
        self._tail: str | None = None

    @property
    def now_ms(self) -> int:
        """The time that events written now bear."""
        return int(self._clock.time() * 1000)

    @property
    def tail(self) -> bytes | None:
        """The last 4 KiB of the invocation's log; None where it is not wanted."""
        return None if self._tail is None else self._tail.encode()[-_TAIL_BYTES:]

    def listen(self, output: int, heard: Callable[[str], None]) -> None:
        """Take the events from this non-blocking pipe until `stop_listening`, and tell `heard` of each."""
        self._sources[output] = (Output(output), heard)
        asyncio.get_running_loop().add_reader(output, self.read)

    def stop_listening(self) -> None:
        """Read what is left. The pipes may be closed afterwards."""
        self.read(flush=True)
        for descriptor in self._sources:
            asyncio.get_running_loop().remove_reader(descriptor)
        self._sources = {}

    def begin(self, *, tail: bool) -> None:
        """An invocation begins; `tail`: keep the end of its log."""
        self._invoking = True
        self._tail = "" if tail else None

    def finish(self) -> None:
        """It is over: ship its events."""
        self._invoking = False
        self._tail = None
        self.ship()

    def write(self, event: str | None) -> None:
        """Add one event; None stands for a line that the log's format does not have."""
        if event is None:
            return
        self._events.append((self.now_ms, event))
        if self._tail is not None:
            line = event if event.endswith("\n") else f"{event}\n"
            self._tail = (self._tail + line)[-_TAIL_BYTES:]

    def read(self, *, flush: bool = False) -> None:
        """Take what the processes have written by now; `flush`: also a line without its end."""
        loop = asyncio.get_running_loop()
        heard_any = False
        for descriptor, (output, heard) in self._sources.items():
            events, over = output.read()
            if flush or over:
                events += output.rest()
            for event in events:
                self.write(event)
                heard(event)
            heard_any = heard_any or bool(events)
            if over:
                loop.remove_reader(descriptor)
        if self._shipping.full and self._sources:
            # The function waits on its pipe until there is room again.
            for descriptor in self._sources:
                loop.remove_reader(descriptor)
            self._shipping.when_drained(self._read_on)
        if not self._invoking:
            self.ship()
        elif self._due is None and heard_any:
            self._due = loop.call_later(_SHIP_AFTER, self.ship)

    def ship(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None
        if self._events:
            events, self._events = self._events, []
            self._shipping.put(self._stream, events)

    def _read_on(self) -> None:
        for descriptor in self._sources:
            asyncio.get_running_loop().add_reader(descriptor, self.read)

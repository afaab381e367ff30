"""What happens right now, looked at every five seconds: file systems, functions, environments."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from lambay.clock import Clock
from lambay.observe.publishing.functions import FunctionActivity, FunctionKey, Totals
from lambay.observe.publishing.ports import FileSystems, WatchedFileSystem
from lambay.observe.publishing.publisher import Publisher


class LiveFileSystem(msgspec.Struct, frozen=True, kw_only=True):
    """`bytes` as EFS meters them; `credits` in bytes (None: elastic); `credits_last_s` is when they run out at this
    pace, None for never."""

    id: str
    account: str
    region: str
    name: str
    mode: str
    read_bytes_per_s: float
    write_bytes_per_s: float
    metadata_per_s: float
    metered_bytes_per_s: float
    permitted_bytes_per_s: float | None
    credits: float | None
    credits_last_s: float | None
    percent_io_limit: float
    connections: int
    locks: int
    bytes: int
    lock_waiters: int
    throttled_waiters: int


class LiveFunction(msgspec.Struct, frozen=True, kw_only=True):
    """Rates over the last five seconds, percentiles over the last 512 invocations, counts since the start."""

    name: str
    account: str
    region: str
    busy: int
    idle: int
    provisioned: int
    invocations_per_s: float
    errors_per_s: float
    throttles_per_s: float
    cold_starts_per_s: float
    p50_ms: float | None
    p99_ms: float | None
    invocations: int
    errors: int
    throttles: int
    cold_starts: int


class LiveEnvironment(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    function: str
    version: str
    state: str
    mount: str | None
    age_s: float
    invocations: int
    memory_bytes: int


class LiveView(msgspec.Struct, frozen=True, kw_only=True):
    at_ms: int
    file_systems: list[LiveFileSystem]
    functions: list[LiveFunction]
    environments: list[LiveEnvironment]


class Living(Protocol):
    """An execution environment; `began` is seconds since the epoch."""

    @property
    def id(self) -> str: ...
    @property
    def account(self) -> str: ...
    @property
    def region(self) -> str: ...
    @property
    def function(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def state(self) -> str: ...
    @property
    def initialization_type(self) -> str: ...
    @property
    def memory_mb(self) -> int: ...
    @property
    def mount(self) -> str | None: ...
    @property
    def began(self) -> float: ...
    @property
    def invocations(self) -> int: ...
    @property
    def peak_mb(self) -> int: ...


class Fleet(Protocol):
    def environments(self) -> Sequence[Living]: ...


class _Look:
    """The counters of one moment, by file system and by function."""

    def __init__(
        self, at: float, volumes: Mapping[str, Mapping[str, Any]], totals: Mapping[FunctionKey, Totals]
    ) -> None:
        self.at = at
        self.volumes = volumes
        self.functions = {
            key: (each.invocations, each.errors, each.throttles, each.cold_starts)
            for key, each in totals.items()
        }


class Live:
    """`view` is the latest look, `follow` every one of them."""

    def __init__(
        self,
        publisher: Publisher,
        activity: FunctionActivity,
        file_systems: FileSystems,
        fleet: Fleet,
        clock: Clock,
    ) -> None:
        self._publisher = publisher
        self._activity = activity
        self._file_systems = file_systems
        self._fleet = fleet
        self._clock = clock
        self._before: _Look | None = None
        self._now: _Look | None = None
        self._percentiles: dict[FunctionKey, tuple[int, float | None, float | None]] = {}
        publisher.on_sample(self._look)

    def view(self) -> LiveView:
        """Rates are those between the last two looks, at most five seconds ago."""
        now = self._now or _Look(self._clock.monotonic(), {}, {})
        before = self._before or now
        seconds = max(now.at - before.at, 0.001)
        environments = self._fleet.environments()
        return LiveView(
            at_ms=int(self._clock.time() * 1000),
            file_systems=[
                self._file_system(each, before, now, seconds) for each in self._file_systems.watched()
            ],
            functions=self._functions(before, now, seconds, environments),
            environments=[
                LiveEnvironment(
                    id=each.id,
                    function=each.function,
                    version=each.version,
                    state=each.state,
                    mount=each.mount,
                    age_s=max(0.0, self._clock.time() - each.began),
                    invocations=each.invocations,
                    memory_bytes=each.peak_mb << 20,
                )
                for each in environments
            ],
        )

    async def follow(self) -> AsyncIterator[LiveView]:
        """The view now, then one after each look, without end."""
        while True:
            sampled = self._publisher.sampled
            yield self.view()
            await sampled.wait()

    def _look(self) -> None:
        for gone in self._percentiles.keys() - self._activity.totals.keys():
            del self._percentiles[gone]
        stats = self._publisher.stats
        volumes = {} if stats is None else _with_mounts(stats.volumes, stats.mounts)
        self._before = self._now
        self._now = _Look(self._clock.monotonic(), volumes, self._activity.totals)

    def _file_system(
        self, file_system: WatchedFileSystem, before: _Look, now: _Look, seconds: float
    ) -> LiveFileSystem:
        counters = now.volumes.get(file_system.id, {})
        earlier = before.volumes.get(file_system.id, counters)
        limits = counters.get("limits") or {}

        def rate(name: str) -> float:
            return max(0.0, float(counters.get(name, 0) - earlier.get(name, 0)) / seconds)

        balance = limits.get("burst_credit_balance") if file_system.throughput_mode == "bursting" else None
        past = (earlier.get("limits") or {}).get("burst_credit_balance")
        spent = 0.0 if balance is None or past is None else (past - balance) / seconds
        return LiveFileSystem(
            id=file_system.id,
            account=file_system.account,
            region=file_system.region,
            name=file_system.tags.get("Name", ""),
            mode=file_system.throughput_mode,
            read_bytes_per_s=rate("read_bytes"),
            write_bytes_per_s=rate("write_bytes"),
            metadata_per_s=rate("metadata_ops"),
            metered_bytes_per_s=rate("metered_bytes"),
            permitted_bytes_per_s=limits.get("permitted_throughput"),
            credits=balance,
            credits_last_s=balance / spent if balance is not None and spent > 0 else None,
            percent_io_limit=float(limits.get("percent_io_limit") or 0.0),
            connections=int(counters.get("connections", 0)),
            locks=int(counters.get("locks", 0)),
            bytes=self._file_systems.metered_size(
                int(counters.get("bytes", 0)), int(counters.get("files", 0))
            ),
            lock_waiters=int(counters.get("lock_waiters", 0)),
            throttled_waiters=int(counters.get("throttled", 0)),
        )

    def _functions(
        self, before: _Look, now: _Look, seconds: float, environments: Sequence[Living]
    ) -> list[LiveFunction]:
        keys = {
            *self._activity.totals,
            *((each.account, each.region, each.function) for each in environments),
        }
        owned: defaultdict[FunctionKey, list[Living]] = defaultdict(list)
        for each in environments:
            owned[each.account, each.region, each.function].append(each)
        found: list[LiveFunction] = []
        for key in sorted(keys):
            totals = self._activity.totals.get(key, Totals())
            own = owned.get(key, [])
            rates = [
                max(0, late - early) / seconds
                for late, early in zip(
                    now.functions.get(key, (0, 0, 0, 0)),
                    before.functions.get(key, (0, 0, 0, 0)),
                    strict=True,
                )
            ]
            p50, p99 = self._middle_and_most(key, totals)
            found.append(
                LiveFunction(
                    account=key[0],
                    region=key[1],
                    name=key[2],
                    busy=totals.busy,
                    idle=sum(each.state in ("idle", "frozen") for each in own),
                    provisioned=sum(each.initialization_type != "on-demand" for each in own),
                    invocations_per_s=rates[0],
                    errors_per_s=rates[1],
                    throttles_per_s=rates[2],
                    cold_starts_per_s=rates[3],
                    p50_ms=p50,
                    p99_ms=p99,
                    invocations=totals.invocations,
                    errors=totals.errors,
                    throttles=totals.throttles,
                    cold_starts=totals.cold_starts,
                )
            )
        return found

    def _middle_and_most(self, key: FunctionKey, totals: Totals) -> tuple[float | None, float | None]:
        """p50 and p99 of the last durations, worked out anew where there were more."""
        known = self._percentiles.get(key)
        if known is None or known[0] != totals.invocations:
            recent = sorted(totals.recent)
            p50 = recent[len(recent) // 2] if recent else None
            p99 = recent[min(len(recent) - 1, len(recent) * 99 // 100)] if recent else None
            known = self._percentiles[key] = (totals.invocations, p50, p99)
        return known[1:]


def _with_mounts(
    volumes: Mapping[str, Mapping[str, Any]], mounts: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Volumes' counters with the locks that their mounts hold."""
    found = {name: {**counters, "locks": counters.get("locks", 0)} for name, counters in volumes.items()}
    for mount in mounts.values():
        volume = found.get(str(mount.get("volume")))
        if volume is not None:
            volume["locks"] += mount.get("locks", 0)
    return found

"""File systems' traffic, from fsd's counters: `AWS/EFS`.

EFS User Guide, "CloudWatch metrics for Amazon EFS". fsd counts bytes and operations, not the size of each: an
IOBytes metric's Minimum and Maximum are the smallest and largest mean size of five seconds' operations.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from lambay.observe.metrics.points import Point
from lambay.observe.metrics.records import Datum, Metric, dimensions
from lambay.observe.publishing.ports import WatchedFileSystem

NAMESPACE = "AWS/EFS"

COUNTERS = ("read", "write", "metadata", "metadata_read", "metadata_write")
_METRICS = {
    "DataReadIOBytes": ("read",),
    "DataWriteIOBytes": ("write",),
    "MetadataIOBytes": ("metadata",),
    "MetadataReadIOBytes": ("metadata_read",),
    "MetadataWriteIOBytes": ("metadata_write",),
    "TotalIOBytes": ("read", "write", "metadata"),
}


@dataclass(slots=True)
class Traffic:
    """A file system's minute so far."""

    io: dict[str, Point] = field(default_factory=dict)
    percent_io_limit: Point | None = None


class FileSystemTraffic:
    """Differences of fsd's counters, gathered by the minute."""

    def __init__(self) -> None:
        self._last: dict[str, dict[str, int]] = {}
        self._minutes: dict[str, Traffic] = {}

    def sample(self, volumes: Mapping[str, Mapping[str, Any]]) -> None:
        """Take in fsd's counters; a counter that has gone back began anew."""
        for volume, counters in volumes.items():
            last = self._last.get(volume)
            now = {
                name: int(counters.get(name, 0))
                for kind in COUNTERS
                for name in (f"{kind}_bytes", f"{kind}_ops")
            }
            now["metered_bytes"] = int(counters.get("metered_bytes", 0))
            if last is None or any(now[name] < last[name] for name in now):
                last = dict.fromkeys(now, 0)
            self._last[volume] = now
            self._add(volume, {name: now[name] - last[name] for name in now}, counters.get("limits") or {})
        for gone in self._last.keys() - volumes.keys():
            del self._last[gone]

    def take(
        self,
        at: int,
        state_at: int,
        volumes: Mapping[str, Mapping[str, Any]],
        watched: Mapping[str, WatchedFileSystem],
    ) -> list[Datum]:
        """The metrics of the minute that began at `at`; the next one begins.

        What was not counted but is so now (connections, credits) is put at `state_at`.
        """
        minutes, self._minutes = self._minutes, {}
        data: list[Datum] = []
        for identifier, file_system in watched.items():
            traffic = minutes.get(identifier, Traffic())
            for when, name, unit, point in (
                *((at, *counted) for counted in _counted(traffic)),
                *((state_at, *told) for told in _state(volumes.get(identifier, {}))),
            ):
                metric = Metric(
                    file_system.account,
                    file_system.region,
                    NAMESPACE,
                    name,
                    dimensions({"FileSystemId": identifier}),
                )
                data.append(Datum(metric, when, point, unit))
        return data

    def forget(self) -> None:
        self._minutes.clear()

    def _add(self, volume: str, by: Mapping[str, int], limits: Mapping[str, Any]) -> None:
        traffic = self._minutes.get(volume)
        if traffic is None:
            traffic = self._minutes[volume] = Traffic()
        operations = by["read_ops"] + by["write_ops"] + by["metadata_ops"]
        for name, kinds in _METRICS.items():
            _join(
                traffic,
                name,
                sum(by[f"{kind}_bytes"] for kind in kinds),
                sum(by[f"{kind}_ops"] for kind in kinds),
            )
        _join(traffic, "MeteredIOBytes", by["metered_bytes"], operations)
        percent = limits.get("percent_io_limit")
        if percent is not None:
            point = Point.of(float(percent))
            if traffic.percent_io_limit is None:
                traffic.percent_io_limit = point
            else:
                traffic.percent_io_limit.merge(point)


def _join(traffic: Traffic, name: str, size: int, operations: int) -> None:
    if not operations:
        return
    mean = size / operations
    point = Point(float(operations), float(size), mean, mean, {mean: float(operations)})
    there = traffic.io.get(name)
    if there is None:
        traffic.io[name] = point
    else:
        there.merge(point)


def _counted(traffic: Traffic) -> Iterator[tuple[str, str, Point]]:
    for name, point in traffic.io.items():
        yield name, "Bytes", point
    if traffic.percent_io_limit is not None:
        yield "PercentIOLimit", "Percent", traffic.percent_io_limit


def _state(counters: Mapping[str, Any]) -> Iterator[tuple[str, str, Point]]:
    if "connections" in counters:
        yield "ClientConnections", "Count", Point.of(float(counters["connections"]))
    limits = counters.get("limits") or {}
    for name, unit, value in (
        ("BurstCreditBalance", "Bytes", limits.get("burst_credit_balance")),
        ("PermittedThroughput", "Bytes/Second", limits.get("permitted_throughput")),
    ):
        if value is not None:
            yield name, unit, Point.of(float(value))

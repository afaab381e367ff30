"""Throughput modes made to hold: fsd is told each file system's, and burst credits are kept.

The rates and the ledger are fsd's. Credits accrue by this server's clock, so an hour that is skipped here is an
hour there, and the balance is written down every minute and at the end.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection

import msgspec
from msgspec.structs import replace

from lambay.clock import Clock
from lambay.efs.ports import FileServer
from lambay.efs.records import FileSystem
from lambay.fsd import FsdError, Ledger, Limits, Report, Stats, Throughput
from lambay.store import Store

_log = logging.getLogger("lambay.efs")

_MIB = 1024 * 1024
_PERIOD_SECONDS = 60.0
_PERFORMANCE = {"generalPurpose": "general_purpose", "maxIO": "max_io"}


#: Is told the mounts that bypass fsd although their file system is limited.
Retire = Callable[[Collection[str]], None]


class ThroughputLimits:
    """Unless `enforced`, credits are counted and nothing is held back. `passthrough`: whether files without
    limits may bypass fsd.
    """

    def __init__(
        self, store: Store, fsd: FileServer, clock: Clock, *, enforced: bool, passthrough: bool
    ) -> None:
        self._store = store
        self._fsd = fsd
        self._clock = clock
        self._passthrough = passthrough
        self.enforced = enforced
        self._ledgers = store.collection("efs.credit-ledgers", Ledger)
        self._held: dict[str, Limits] = {}
        self._retire: list[Retire] = []

    def on_bypass(self, retire: Retire) -> None:
        """Have `retire` called with the mounts whose open files bypass fsd although they are limited by now.

        They cannot be recalled: whoever made these mounts replaces them as soon as he can.
        """
        self._retire.append(retire)

    async def begin(self, file_system: FileSystem) -> None:
        """Hold a volume that was just opened to its limits, with the credits it had. Raises FsdError."""
        ledger = self._ledgers.get(file_system.id)
        await self._hold(file_system.id, replace(self._limits(file_system), ledger=ledger))

    async def switch(self, file_system: FileSystem) -> None:
        """Hold an open volume to other limits from now on; its credits go on. Raises FsdError."""
        await self._hold(file_system.id, self._limits(file_system))
        self._retire_bypassing(await self._fsd.stats())

    async def report(self, volume: str) -> Report:
        """How an open volume stands to its limits. Raises FsdError, KeyError where it is not open."""
        await self._set_clock()
        return msgspec.convert((await self._fsd.stats()).volumes[volume]["limits"], Report)

    async def put_credits(self, volume: str, credit_bytes: int) -> Report:
        """Give an open volume another balance, and write it down.

        Raises FsdError, KeyError where it is not open.
        """
        await self._set_clock()
        stored = int((await self._fsd.stats()).volumes[volume]["bytes"])
        ledger = Ledger(credit_bytes, 0, int(self._clock.time() * 1e9))
        report = await self._fsd.limit(
            volume, replace(self._held[volume], standard_bytes=stored, ledger=ledger)
        )
        await self._store.commit(self._ledgers.put(volume, report.ledger))
        return report

    async def forget(self, *file_systems: FileSystem) -> None:
        for file_system in file_systems:
            self._held.pop(file_system.id, None)
        await self._store.commit(
            *(self._ledgers.remove(each.id) for each in file_systems if each.id in self._ledgers)
        )

    async def run(self) -> None:
        """Keep the ledgers, until cancelled."""
        while True:
            await self._clock.sleep(_PERIOD_SECONDS)
            await self.keep()

    async def keep(self) -> None:
        """Tell fsd the time and what is stored, and write every balance down."""
        try:
            await self._set_clock()
            stats = await self._fsd.stats()
            volumes = stats.volumes
            # Also a file that was about to be opened when its file system was switched.
            self._retire_bypassing(stats)
            for volume, limits in list(self._held.items()):
                if limits.throughput.mode != "elastic" and volume in volumes:
                    stored = replace(limits, standard_bytes=int(volumes[volume]["bytes"]))
                    await self._fsd.limit(volume, stored)
        except FsdError as error:
            _log.warning("burst credits are not kept: %s", error)
            return
        await self._store.commit(
            *(
                self._ledgers.put(volume, Ledger(**counters["limits"]["ledger"]))
                for volume, counters in volumes.items()
                if counters.get("limits")
            )
        )

    async def _hold(self, volume: str, limits: Limits) -> None:
        await self._set_clock()
        await self._fsd.limit(volume, limits)
        self._held[volume] = replace(limits, ledger=None)

    def _retire_bypassing(self, stats: Stats) -> None:
        bypassing = [
            mount
            for mount, counters in stats.mounts.items()
            if counters["passthrough_files"] and not self._may_bypass(counters["volume"])
        ]
        if bypassing:
            for retire in self._retire:
                retire(bypassing)

    def _may_bypass(self, volume: str) -> bool:
        held = self._held.get(volume)
        return held is None or bool(held.passthrough)

    def _limits(self, file_system: FileSystem) -> Limits:
        provisioned = file_system.provisioned_mibps
        return Limits(
            throughput=Throughput(
                file_system.throughput_mode, None if provisioned is None else int(provisioned * _MIB)
            ),
            performance=_PERFORMANCE[file_system.performance_mode],
            passthrough=self._passthrough
            and not (self.enforced and file_system.throughput_mode != "elastic"),
            enforce=self.enforced,
        )

    async def _set_clock(self) -> None:
        await self._fsd.set_clock(int(self._clock.time() * 1e9))

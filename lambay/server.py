"""Builds the parts in order, runs them, and stops them in reverse."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import resource
import signal
from contextlib import AsyncExitStack
from pathlib import Path
from typing import IO

from lambay.settings import Settings

_DESCRIPTORS = 1 << 20

_log = logging.getLogger("lambay.server")


class DataDirectoryUnusable(Exception):
    """Another server runs on this data directory, or it cannot be made."""


def run(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; the exit status is 0 after a clean stop, 1 when it could not start."""
    import uvloop

    from lambay import journal

    journal.configure(settings)
    _allow_descriptors()
    try:
        return uvloop.run(_serve(settings))
    except DataDirectoryUnusable as error:
        _log.error("%s", error)
        return 1


def _allow_descriptors() -> None:
    """Each environment takes half a dozen; shells allow a thousand, for programs that wait with select(2)."""
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(now, min(most, _DESCRIPTORS)), most))


async def _serve(settings: Settings) -> int:
    from lambay.house import House

    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    with _lock(settings.data_dir):
        async with AsyncExitStack() as stack:
            try:
                house = await House.build(settings, stack)
            except (OSError, ValueError) as error:
                # What the machine or a setting does not allow is said in the text; where it was found, to who debugs.
                _log.error("could not start: %s", error, exc_info=_log.isEnabledFor(logging.DEBUG))
                return 1
            except Exception as error:
                _log.exception("could not start: %s", error)
                return 1
            # Scripts wait for this line; the URL is its fourth word.
            print(
                f"Lambay ready on {house.url} data {settings.data_dir} account {settings.account}", flush=True
            )
            await stopping.wait()
            _log.info("stopping")
    return 0


def _lock(data_dir: Path) -> IO[str]:
    """The data directory for this process alone, until the file is closed."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o711)
        file = open(data_dir / "lock", "a+")  # noqa: SIM115 - held for the server's life
    except OSError as error:
        raise DataDirectoryUnusable(f"--data-dir {data_dir} cannot be used: {error.strerror}") from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.seek(0)
        owner = file.read().strip() or "unknown"
        file.close()
        raise DataDirectoryUnusable(
            f"{data_dir} is in use by the Lambay with pid {owner}; stop it or choose another --data-dir"
        ) from None
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file

"""The process behind the control socket: whether it serves, how it is ended, and its log made ours."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import msgspec

from lambay.fsd.connection import FsdError
from lambay.pidfd import ended

_log = logging.getLogger("lambay.fsd")

_START_SECONDS = 10.0
_END_SECONDS = 10.0

_LEVELS = {
    "TRACE": logging.DEBUG,
    "DEBUG": logging.DEBUG,
    "INFO": logging.INFO,
    "WARN": logging.WARNING,
    "ERROR": logging.ERROR,
}


def kill(process: asyncio.subprocess.Process) -> None:
    """SIGKILL; fine if it has ended."""
    # Process.kill would collect the exit status that the event loop waits for.
    with suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGKILL)


def end_earlier(pid_file: Path, socket: str) -> None:
    """Kill the process of `pid_file` if it still is an fsd on `socket`, and wait until it is gone."""
    try:
        pid = int(pid_file.read_text())
        pidfd = os.pidfd_open(pid)
    except (OSError, ValueError):
        return
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if os.fsencode(socket) in arguments:
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            ended(pidfd, _END_SECONDS)
    except OSError as error:
        _log.debug("earlier file server %d: %s", pid, error)
    finally:
        os.close(pidfd)


async def until_serving(process: asyncio.subprocess.Process, serving: asyncio.Event) -> None:
    """Raises FsdError where the process ends first, or takes too long."""
    sign = asyncio.create_task(serving.wait())
    end = asyncio.create_task(process.wait())
    try:
        await asyncio.wait({sign, end}, timeout=_START_SECONDS, return_when=asyncio.FIRST_COMPLETED)
    finally:
        sign.cancel()
        end.cancel()
    if process.returncode is not None:
        raise FsdError("NotRunning", f"ended at its start with status {process.returncode}; see its log")
    if not serving.is_set():
        raise FsdError("NotRunning", f"not ready within {_START_SECONDS:g} s")


async def forward_log(stream: asyncio.StreamReader, serving: asyncio.Event) -> None:
    """fsd's standard error, in tracing's JSON, as records of `lambay.fsd`; `serving` is set by its sign."""
    async for line in _lines(stream):
        try:
            entry = msgspec.json.decode(line)
            fields = dict(entry.get("fields", {}))
            message = str(fields.pop("message", ""))
            level = _LEVELS.get(str(entry.get("level", "")), logging.INFO)
        except (msgspec.DecodeError, AttributeError, TypeError, ValueError):
            # A panic's words, or the loader's, are not JSON.
            _log.warning("%s", line.decode(errors="replace").rstrip())
            continue
        if message == "serving":
            serving.set()
        said = " ".join([message, *(f"{name}={value}" for name, value in fields.items())])
        _log.log(level, "%s", said)


async def forward_output(stream: asyncio.StreamReader, serving: asyncio.Event) -> None:
    """fsd's standard output: its first line says that it serves."""
    async for line in _lines(stream):
        serving.set()
        _log.debug("stdout: %s", line.decode(errors="replace").rstrip())


async def _lines(stream: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while True:
        try:
            line = await stream.readline()
        except ValueError:
            # Longer than a line may be; the reader has dropped it.
            continue
        if not line:
            return
        yield line

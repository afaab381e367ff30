"""Lambay's own pages, under `/_lambay/`: health, status, reset, and what the command line needs of the server.

They are no part of the AWS API. Health and status are open, the reset is where it was switched on; the others
want a signature of the account's root for the service `lambay`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Literal
from urllib.parse import parse_qs

import msgspec

from lambay import __version__
from lambay.aws import AWSError
from lambay.http import Request, Response

if TYPE_CHECKING:
    from lambay.house import House

_log = logging.getLogger("lambay.pages")

_ZONE = re.compile(r"[a-z]{2}(-[a-z]+)+-\d+[a-z]")

Page = Callable[[Request], Awaitable[Response]]


class _ZoneState(msgspec.Struct):
    state: Literal["up", "down"]


class OwnPages:
    """Routes by method and the path's beginning; the first that fits answers."""

    def __init__(self, house: House) -> None:
        self._house = house
        self._open: list[tuple[str, str, Page]] = [
            ("GET", "/_lambay/health", self._health),
            ("GET", "/_lambay/status", self._status),
            ("GET", "/_lambay/metrics", house.prometheus.page),
            ("POST", "/_lambay/reset", self._reset),
            ("GET", "/_lambay/code/", house.functions.handle_code),
            ("GET", "/_lambay/console", house.console.handle),
            ("GET", "/_lambay/console/", house.console.handle),
        ]
        self._for_root: list[tuple[str, str, Page]] = [
            ("POST", "/_lambay/mounts", house.host_mounts.create),
            ("GET", "/_lambay/mounts", house.host_mounts.list),
            ("DELETE", "/_lambay/mounts/", house.host_mounts.delete),
            ("GET", "/_lambay/credits/", house.burst_credits.show),
            ("POST", "/_lambay/credits/", house.burst_credits.put),
            ("GET", "/_lambay/logs/tail", house.logs.tail_handler),
            ("GET", "/_lambay/explain", house.explainer.page),
            ("GET", "/_lambay/network", self._network),
            ("POST", "/_lambay/zones/", self._zone),
            ("GET", "/_lambay/clock", house.time.show),
            ("POST", "/_lambay/clock", house.time.advance),
            ("GET", "/_lambay/live", self._live),
            ("GET", "/_lambay/costs", house.billing.page),
            ("GET", "/_lambay/map", house.topology.handle),
            ("GET", "/_lambay/files/", house.files.handle),
            ("PUT", "/_lambay/files/", house.files.handle),
            ("DELETE", "/_lambay/files/", house.files.handle),
        ]

    @property
    def routes(self) -> list[tuple[str, str]]:
        """Method and path, or the path's beginning, of every page."""
        return [(method, path) for method, path, _ in (*self._open, *self._for_root)]

    async def handle(self, request: Request) -> Response:
        """Never raises: what goes wrong is an answer with a `message`."""
        try:
            page = _find(self._open, request)
            if page is None:
                page = _find(self._for_root, request)
                if page is None:
                    return answer({"message": f"there is no {request.method} {request.path}"}, 404)
                await self._require_root(request)
            return await page(request)
        except AWSError as error:
            return answer({"message": error.message, "code": error.code}, error.status or 400)
        except Exception:
            _log.exception("%s %s failed", request.method, request.path)
            return answer({"message": "this failed; the server's log says why"}, 500)

    async def _require_root(self, request: Request) -> None:
        principal = await self._house.identity.authenticate(request, "lambay")
        if principal.kind != "root" or principal.account != self._house.settings.account:
            raise AWSError(
                "AccessDenied", f"{request.path} is for the account's root credentials", status=403
            )

    async def _live(self, request: Request) -> Response:
        """What happens now; with `?follow=1` a JSON line every five seconds."""
        if "follow" not in parse_qs(request.query):
            return answer(self._house.live.view())

        async def views() -> AsyncIterator[bytes]:
            async for view in self._house.live.follow():
                yield msgspec.json.encode(view) + b"\n"

        return Response(200, {"content-type": "application/x-ndjson"}, views())

    async def _health(self, request: Request) -> Response:
        serving = self._house.fsd.running is not None
        status = "ok" if serving else "the file server is starting"
        return answer({"status": status, "version": __version__}, 200 if serving else 503)

    async def _status(self, request: Request) -> Response:
        if not self._house.settings.on_loopback:
            await self._require_root(request)
        return answer(await self._house.status())

    async def _network(self, request: Request) -> Response:
        return answer(self._house.wires.status())

    async def _zone(self, request: Request) -> Response:
        """`/_lambay/zones/ZONE` with {"state": "down"} or {"state": "up"}."""
        zone = request.path.rpartition("/")[2]
        if not _ZONE.fullmatch(zone):
            return answer(
                {"message": f"zone: {zone!r} is no Availability Zone's name, such as us-east-1a"}, 400
            )
        try:
            wanted = msgspec.json.decode(request.body, type=_ZoneState).state
        except msgspec.MsgspecError as error:
            return answer({"message": f"state is up or down: {error}"}, 400)
        if wanted == "down":
            await self._house.wires.take_zone_down(zone)
        else:
            await self._house.wires.bring_zone_up(zone)
        return answer(self._house.wires.status())

    async def _reset(self, request: Request) -> Response:
        if not self._house.settings.allow_reset:
            return answer({"message": "start Lambay with --allow-reset to allow this"}, 403)
        if not self._house.settings.on_loopback:
            await self._require_root(request)
        await self._house.reset()
        return answer({"status": "empty"})


def _find(pages: list[tuple[str, str, Page]], request: Request) -> Page | None:
    # Load balancers ask for health by HEAD: the answer to GET without its body (RFC 9110, section 9.3.2).
    wanted = "GET" if request.method == "HEAD" else request.method
    for method, path, page in pages:
        fits = request.path.startswith(path) if path.endswith("/") else request.path == path
        if fits and method == wanted:
            return page
    return None


def answer(content: object, status: int = 200) -> Response:
    """A JSON response."""
    return Response(status, {"content-type": "application/json"}, msgspec.json.encode(content) + b"\n")

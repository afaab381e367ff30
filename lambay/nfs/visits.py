"""Clients that show a certificate, as EFS's mount helper has them do: who they are, and what they may do.

A client that says something untrue, or may not mount, has its connection and sees nothing: `mount` says "access denied
by server", as with EFS. What a client may do follows policies and records for as long as it is connected.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from lambay.aws import Arn, AWSError, Principal
from lambay.clock import Clock
from lambay.fsd import FsdError, NfsAnswer, NfsQuestion, NfsVisitEnded, Permissions
from lambay.mount_source import MountSource
from lambay.nfs import client_certificates
from lambay.nfs.client_certificates import ClientCertificate, ConnectionSignature
from lambay.nfs.policies import ANONYMOUS, Deciding, permissions

_log = logging.getLogger("lambay.nfs")

_REFUSED = Permissions(denied=True)
# Shared by all that are refused; they get nowhere in it.
_NOWHERE = "nowhere"


class Sources(Protocol):
    def mountable(self) -> Sequence[MountSource]: ...


class Authenticating(Protocol):
    async def authenticate_connection(self, connection: ConnectionSignature, region: str) -> Principal: ...


class FileServer(Protocol):
    async def nfs_questions(self, on_line: Callable[[NfsQuestion | NfsVisitEnded], None]) -> None: ...
    async def nfs_answer(self, answer: NfsAnswer) -> bool: ...


class Refused(Exception):
    """Why a client may not mount, for the log: the client is told nothing."""


@dataclass(frozen=True, slots=True)
class Visit:
    """Whoever connects, and to what: `access_point` None is the file system itself, `vpc` "" the outside."""

    principal: Principal
    file_system: str
    access_point: str | None
    vpc: str
    peer: str

    @property
    def root(self) -> str:
        """The export that it sees."""
        return self.access_point or self.file_system

    @property
    def realm(self) -> str:
        """Temporary credentials change while a client goes on: a role's sessions are one client to NFS."""
        who = self.principal.role_arn or self.principal.arn
        return f"{self.root} {self.vpc} {who}"


class Visits:
    def __init__(
        self,
        sources: Sources,
        fsd: FileServer,
        deciding: Deciding,
        authenticating: Authenticating,
        clock: Clock,
    ) -> None:
        self._sources = sources
        self._fsd = fsd
        self._deciding = deciding
        self._authenticating = authenticating
        self._clock = clock
        self._standing: dict[int, tuple[Visit, Permissions]] = {}
        self._answers: dict[int, asyncio.Task[None]] = {}

    async def start(self) -> None:
        """Answer from now on. Raises FsdError."""
        await self._fsd.nfs_questions(self._heard)

    @property
    def standing(self) -> bool:
        """Whether anybody is here whose own policies may be about the time."""
        return bool(self._standing)

    def forget(self) -> None:
        """The file server has ended, and with it every connection."""
        self._standing.clear()

    async def reconsider(self) -> None:
        """Policies or records changed. Raises FsdError."""
        sources = self._sources.mountable()
        for number, (visit, before) in list(self._standing.items()):
            now = await self._permissions(visit, sources)
            if now != before and number in self._standing:
                self._standing[number] = (visit, now)
                await self._fsd.nfs_answer(NfsAnswer(visit=number, permissions=now))

    def _heard(self, line: NfsQuestion | NfsVisitEnded) -> None:
        if isinstance(line, NfsVisitEnded):
            self._standing.pop(line.ended, None)
            answering = self._answers.pop(line.ended, None)
            if answering is not None:
                answering.cancel()
            return
        answering = asyncio.create_task(self._answer(line), name="NFS client's identity")
        self._answers[line.visit] = answering
        answering.add_done_callback(lambda _: self._answers.pop(line.visit, None))

    async def _answer(self, question: NfsQuestion) -> None:
        try:
            answer = await self._judged(question)
        except Refused as refusal:
            _log.warning("an NFS client at %s is refused: %s", question.peer, refusal)
            answer = NfsAnswer(visit=question.visit, root=_NOWHERE, realm=_NOWHERE, permissions=_REFUSED)
        except Exception:
            _log.exception("whether an NFS client at %s may mount is not known", question.peer)
            answer = NfsAnswer(visit=question.visit, root=_NOWHERE, realm=_NOWHERE, permissions=_REFUSED)
        try:
            if not await self._fsd.nfs_answer(answer):
                self._standing.pop(question.visit, None)
        except FsdError as error:
            # It has ended, and its connections with it.
            self._standing.pop(question.visit, None)
            _log.debug("an NFS client at %s is not answered: %s", question.peer, error)

    async def _judged(self, question: NfsQuestion) -> NfsAnswer:
        """Raises Refused."""
        try:
            shown = client_certificates.read(bytes.fromhex(question.certificate))
        except ValueError as error:
            raise Refused(f"its certificate cannot be read: {error}") from None
        if shown is None:
            # Some tunnel's own: it says nothing about this server's principals.
            return NfsAnswer(visit=question.visit)
        visit = await self._visit(shown, question)
        granted = await self._permissions(visit, self._sources.mountable())
        if granted.denied:
            who = visit.principal.arn or "anonymous"
            _log.warning("an NFS client at %s is refused: %s may not mount %s", visit.peer, who, visit.root)
        self._standing[question.visit] = (visit, granted)
        return NfsAnswer(visit=question.visit, root=visit.root, realm=visit.realm, permissions=granted)

    async def _visit(self, shown: ClientCertificate, question: NfsQuestion) -> Visit:
        if not shown.lasts_at(self._clock.wall()):
            raise Refused(f"its certificate is valid from {shown.begins} to {shown.ends}")
        here, _, vpc = (question.export or "").partition("@")
        if here and here != shown.file_system:
            raise Refused(f"it asks for {shown.file_system} at a mount target of {here}")
        source = _source(self._sources.mountable(), shown.file_system, shown.access_point)
        if source is None:
            raise Refused(f"there is no {shown.access_point or 'such file system'} in {shown.file_system}")
        principal = ANONYMOUS
        if shown.signature is not None:
            region = Arn.parse(source.file_system_arn).region
            try:
                principal = await self._authenticating.authenticate_connection(shown.signature, region)
            except AWSError as error:
                raise Refused(f"its signature for {shown.file_system}: {error.message}") from None
        return Visit(principal, shown.file_system, shown.access_point, vpc, question.peer)

    async def _permissions(self, visit: Visit, sources: Sequence[MountSource]) -> Permissions:
        source = _source(sources, visit.file_system, visit.access_point)
        if source is None:
            return _REFUSED
        keys = {"aws:SourceVpc": visit.vpc or None, "aws:SourceIp": visit.peer or None}
        return await permissions(self._deciding, visit.principal, source, keys, secure=True)


def _source(sources: Sequence[MountSource], file_system: str, access_point: str | None) -> MountSource | None:
    return next(
        (
            source
            for source in sources
            if source.file_system == file_system and source.access_point == access_point
        ),
        None,
    )

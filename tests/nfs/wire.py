"""An NFSv4.1 client for tests: says exactly what it is told to, and shows every status."""

from __future__ import annotations

import itertools
import os
import socket
import ssl
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

DEADLINE = 60.0
PROGRAM = 100003

# Operations, RFC 8881 section 16.2.
ACCESS, CLOSE, COMMIT, CREATE, GETATTR, GETFH, LINK, LOCK, LOCKT, LOCKU = 3, 4, 5, 6, 9, 10, 11, 12, 13, 14
LOOKUP, LOOKUPP, NVERIFY, OPEN, OPENATTR, OPEN_DOWNGRADE, PUTFH, PUTPUBFH, PUTROOTFH = (
    15,
    16,
    17,
    18,
    19,
    21,
    22,
    23,
    24,
)
READ, READDIR, READLINK, REMOVE, RENAME, RESTOREFH, SAVEFH, SECINFO, SETATTR, VERIFY, WRITE = (
    25, 26, 27, 28, 29, 31, 32, 33, 34, 37, 38
)  # fmt: skip
BIND_CONN, EXCHANGE_ID, CREATE_SESSION, DESTROY_SESSION, FREE_STATEID = 41, 42, 43, 44, 45
LAYOUTGET, SECINFO_NO_NAME, SEQUENCE, TEST_STATEID, DESTROY_CLIENTID, RECLAIM_COMPLETE = (
    50,
    52,
    53,
    55,
    57,
    58,
)

# Statuses, section 15.
OK, PERM, NOENT, ACCES, EXIST, XDEV, NOTDIR, ISDIR, INVAL, FBIG, ROFS = (
    0,
    1,
    2,
    13,
    17,
    18,
    20,
    21,
    22,
    27,
    30,
)
NAMETOOLONG, NOTEMPTY, DQUOT, STALE = 63, 66, 69, 70
BADHANDLE, NOTSUPP, TOOSMALL, BADTYPE, SAME, DENIED, GRACE = 10001, 10004, 10005, 10007, 10009, 10010, 10013
CLID_INUSE, NOFILEHANDLE, MINOR_VERS_MISMATCH, STALE_CLIENTID = 10017, 10020, 10021, 10022
OLD_STATEID, BAD_STATEID, NOT_SAME, SYMLINK, ATTRNOTSUPP, NO_GRACE = 10024, 10025, 10027, 10029, 10032, 10033
BADXDR, OPENMODE, BADOWNER, BADNAME, OP_ILLEGAL = 10036, 10038, 10039, 10041, 10044
BADSESSION, BADSLOT, COMPLETE_ALREADY, SEQ_MISORDERED, SEQUENCE_POS = 10052, 10053, 10054, 10063, 10064
REQ_TOO_BIG, TOO_MANY_OPS, OP_NOT_IN_SESSION, CLIENTID_BUSY, NOT_ONLY_OP = 10065, 10070, 10071, 10074, 10081
RETRY_UNCACHED_REP = 10068

READ_LOCK, WRITE_LOCK = 1, 2
EVERYTHING = 2**64 - 1


def u32(*values: int) -> bytes:
    return struct.pack(f">{len(values)}I", *values)


def u64(*values: int) -> bytes:
    return struct.pack(f">{len(values)}Q", *values)


def opaque(value: bytes) -> bytes:
    return u32(len(value)) + value + bytes(-len(value) % 4)


def bitmap(*numbers: int) -> bytes:
    words = [0] * (max(numbers, default=-1) // 32 + 1)
    for number in numbers:
        words[number // 32] |= 1 << number % 32
    return u32(len(words), *words)


def attributes(*, mode: int | None = None, size: int | None = None, owner: bytes | None = None) -> bytes:
    """`fattr4` of what is given."""
    numbers, values = [], b""
    if size is not None:
        numbers.append(4)
        values += u64(size)
    if mode is not None:
        numbers.append(33)
        values += u32(mode)
    if owner is not None:
        numbers.append(36)
        values += opaque(owner)
    return bitmap(*numbers) + opaque(values)


class Answer:
    """Takes values from the front of a result."""

    def __init__(self, rest: bytes) -> None:
        self.rest = rest

    def take(self, size: int) -> bytes:
        value, self.rest = self.rest[:size], self.rest[size:]
        assert len(value) == size, "the answer is too short"
        return value

    def u32(self) -> int:
        return int(struct.unpack(">I", self.take(4))[0])

    def u64(self) -> int:
        return int(struct.unpack(">Q", self.take(8))[0])

    def opaque(self) -> bytes:
        size = self.u32()
        value = self.take(size)
        self.take(-size % 4)
        return value

    def bitmap(self) -> list[int]:
        words = [self.u32() for _ in range(self.u32())]
        return [32 * at + bit for at, word in enumerate(words) for bit in range(32) if word >> bit & 1]


@dataclass(frozen=True)
class StateId:
    seqid: int
    other: bytes

    def encoded(self) -> bytes:
        return u32(self.seqid) + self.other


ANONYMOUS = StateId(0, bytes(12))
CURRENT = StateId(1, bytes(12))


def stateid(answer: Answer) -> StateId:
    return StateId(answer.u32(), answer.take(12))


@dataclass
class Result:
    op: int
    status: int
    value: Any = None


class Denied(Exception):
    """The call as such was denied, or ended without results; `reason` is the accept or reject status."""

    def __init__(self, reason: tuple[int, ...]) -> None:
        super().__init__(str(reason))
        self.reason = reason


@dataclass
class User:
    uid: int = 0
    gid: int = 0
    gids: tuple[int, ...] = ()

    def credentials(self) -> bytes:
        body = u32(0) + opaque(b"tests") + u32(self.uid, self.gid, len(self.gids), *self.gids)
        return u32(1) + opaque(body)


class Connection:
    """One TCP connection."""

    def __init__(
        self, port: int, user: User | None = None, host: str = "127.0.0.1", source: str | None = None
    ) -> None:
        own = None if source is None else (source, 0)
        self.socket = socket.create_connection((host, port), DEADLINE, own)
        self.user = user or User()
        self._xids = itertools.count(int.from_bytes(os.urandom(3)))

    def close(self) -> None:
        self.socket.close()

    def send(self, record: bytes) -> None:
        self.socket.sendall(u32(len(record) | 1 << 31) + record)

    def receive(self) -> bytes:
        record = b""
        while True:
            head = struct.unpack(">I", self._exactly(4))[0]
            record += self._exactly(head & 0x7FFFFFFF)
            if head >> 31:
                return record

    def _exactly(self, size: int) -> bytes:
        parts = bytearray()
        while len(parts) < size:
            part = self.socket.recv(size - len(parts))
            if not part:
                raise EOFError("the server closed the connection")
            parts += part
        return bytes(parts)

    def call_record(self, procedure: int, body: bytes, credentials: bytes | None = None) -> tuple[int, bytes]:
        xid = next(self._xids)
        known = self.user.credentials() if credentials is None else credentials
        return xid, u32(xid, 0, 2, PROGRAM, 4, procedure) + known + u32(0, 0) + body

    def call(self, procedure: int, body: bytes, credentials: bytes | None = None) -> Answer:
        xid, record = self.call_record(procedure, body, credentials)
        self.send(record)
        return self.answer(xid)

    def answer(self, xid: int) -> Answer:
        answer = Answer(self.receive())
        assert answer.u32() == xid
        assert answer.u32() == 1
        if answer.u32() != 0:
            raise Denied((answer.u32(), answer.u32()))
        answer.u32()
        answer.opaque()
        accepted = answer.u32()
        if accepted != 0:
            raise Denied((accepted,))
        return answer

    def start_tls(self, context: ssl.SSLContext) -> str | None:
        """RFC 9289: asks for TLS and begins it; the protocol that was agreed on."""
        xid, record = self.call_record(0, b"", u32(7, 0))
        self.send(record)
        answer = Answer(self.receive())
        assert answer.u32() == xid
        assert answer.u32() == 1
        if answer.u32() != 0:
            raise Denied((answer.u32(), answer.u32()))
        assert (answer.u32(), answer.opaque(), answer.u32()) == (0, b"STARTTLS", 0)
        return self.wrap(context)

    def wrap(self, context: ssl.SSLContext, server: str = "localhost") -> str | None:
        """TLS at once, as EFS's mount helper has it."""
        secured = context.wrap_socket(self.socket, server_hostname=server)
        self.socket = secured
        return secured.selected_alpn_protocol()

    def compound(self, *operations: bytes, minor: int = 1) -> tuple[int, list[Result]]:
        """The compound's status, and the results of its operations."""
        body = opaque(b"test") + u32(minor, len(operations)) + b"".join(operations)
        return results(self.call(1, body))


def results(answer: Answer) -> tuple[int, list[Result]]:
    status = answer.u32()
    assert answer.opaque() == b"test"
    found = []
    for _ in range(answer.u32()):
        op, state = answer.u32(), answer.u32()
        value = None
        if op == SETATTR:
            value = answer.bitmap()
        elif state == DENIED and op in (LOCK, LOCKT):
            value = (answer.u64(), answer.u64(), answer.u32(), answer.u64(), answer.opaque())
        elif state == OK and op in _PARSERS:
            value = _PARSERS[op](answer)
        found.append(Result(op, state, value))
    assert not answer.rest, "bytes after the results"
    return status, found


def _change(answer: Answer) -> tuple[int, int, int]:
    return answer.u32(), answer.u64(), answer.u64()


def _attributes(answer: Answer) -> dict[int, Any]:
    numbers, values, found = answer.bitmap(), Answer(answer.opaque()), {}
    for number in numbers:
        found[number] = _ATTRIBUTES[number](values)
    assert not values.rest
    return found


def _time(answer: Answer) -> tuple[int, int]:
    return answer.u64(), answer.u32()


_ATTRIBUTES: dict[int, Callable[[Answer], Any]] = {
    0: Answer.bitmap,
    1: Answer.u32,
    3: Answer.u64,
    4: Answer.u64,
    8: lambda answer: (answer.u64(), answer.u64()),
    11: Answer.u32,
    13: Answer.u32,
    19: Answer.opaque,
    20: Answer.u64,
    27: Answer.u64,
    28: Answer.u32,
    33: Answer.u32,
    35: Answer.u32,
    36: Answer.opaque,
    37: Answer.opaque,
    45: Answer.u64,
    47: _time,
    52: _time,
    53: _time,
    55: Answer.u64,
    75: Answer.bitmap,
}


def _open(answer: Answer) -> dict[str, Any]:
    found = {
        "state": stateid(answer),
        "change": _change(answer),
        "flags": answer.u32(),
        "set": answer.bitmap(),
    }
    delegation = answer.u32()
    assert delegation in (0, 3), "a delegation"
    if delegation == 3:
        found["why"] = answer.u32()
        assert found["why"] != 2 or answer.u32() == 0, "told when there is one"
    return found


def _entries(answer: Answer) -> tuple[list[tuple[int, bytes, dict[int, Any]]], bool]:
    answer.take(8)
    entries = []
    while answer.u32():
        entries.append((answer.u64(), answer.opaque(), _attributes(answer)))
    return entries, bool(answer.u32())


def _exchange(answer: Answer) -> dict[str, Any]:
    found = {
        "client": answer.u64(),
        "sequence": answer.u32(),
        "flags": answer.u32(),
        "protection": answer.u32(),
    }
    found |= {"minor": answer.u64(), "major": answer.opaque(), "scope": answer.opaque()}
    assert answer.u32() == 0
    return found


def _channel(answer: Answer) -> list[int]:
    found = [answer.u32() for _ in range(6)]
    assert answer.u32() == 0
    return found


def _created(answer: Answer) -> dict[str, Any]:
    return {
        "session": answer.take(16),
        "sequence": answer.u32(),
        "flags": answer.u32(),
        "fore": _channel(answer),
        "back": _channel(answer),
    }


_PARSERS: dict[int, Callable[[Answer], Any]] = {
    ACCESS: lambda answer: (answer.u32(), answer.u32()),
    CLOSE: stateid,
    COMMIT: lambda answer: answer.take(8),
    CREATE: lambda answer: (_change(answer), answer.bitmap()),
    GETATTR: _attributes,
    GETFH: Answer.opaque,
    LINK: _change,
    LOCK: stateid,
    LOCKU: stateid,
    OPEN: _open,
    OPEN_DOWNGRADE: stateid,
    READ: lambda answer: (bool(answer.u32()), answer.opaque()),
    READDIR: _entries,
    READLINK: Answer.opaque,
    REMOVE: _change,
    RENAME: lambda answer: (_change(answer), _change(answer)),
    SECINFO: lambda answer: [answer.u32() for _ in range(answer.u32())],
    SECINFO_NO_NAME: lambda answer: [answer.u32() for _ in range(answer.u32())],
    WRITE: lambda answer: (answer.u32(), answer.u32(), answer.take(8)),
    BIND_CONN: lambda answer: (answer.take(16), answer.u32(), answer.u32()),
    EXCHANGE_ID: _exchange,
    CREATE_SESSION: _created,
    SEQUENCE: lambda answer: (answer.take(16), [answer.u32() for _ in range(5)]),
    TEST_STATEID: lambda answer: [answer.u32() for _ in range(answer.u32())],
}

# ---- operations


def exchange_id(owner: bytes, verifier: bytes = b"verifier", flags: int = 0, protection: int = 0) -> bytes:
    return u32(EXCHANGE_ID) + verifier + opaque(owner) + u32(flags, protection, 0)


def channel(**given: int) -> bytes:
    most = (1 << 20) + 8192
    asked = {"pad": 0, "request": most, "response": most, "cached": 4096, "operations": 32, "requests": 16}
    return u32(*(asked | given).values()) + u32(0)


def create_session(client: int, sequence: int, flags: int = 0, **fore: int) -> bytes:
    return (
        u32(CREATE_SESSION)
        + u64(client)
        + u32(sequence, flags)
        + channel(**fore)
        + channel()
        + u32(0x40000000, 1, 0)
    )


def sequence(session: bytes, number: int, slot: int = 0, cache: bool = False) -> bytes:
    return u32(SEQUENCE) + session + u32(number, slot, slot, cache)


def putfh(handle: bytes) -> bytes:
    return u32(PUTFH) + opaque(handle)


def lookup(name: str) -> bytes:
    return u32(LOOKUP) + opaque(name.encode())


def getattr_(*numbers: int) -> bytes:
    return u32(GETATTR) + bitmap(*numbers)


def open_(
    owner: bytes,
    name: str | None = None,
    *,
    access: int = 3,
    deny: int = 0,
    create: bytes | None = None,
    claim: bytes | None = None,
) -> bytes:
    """`create` is `createhow4`; without a name the claim is CLAIM_FH unless one is given."""
    how = u32(0) if create is None else u32(1) + create
    if claim is None:
        claim = u32(4) if name is None else u32(0) + opaque(name.encode())
    return u32(OPEN, 0, access, deny) + u64(0) + opaque(owner) + how + claim


def unchecked(**given: Any) -> bytes:
    return u32(0) + attributes(**given)


def guarded(**given: Any) -> bytes:
    return u32(1) + attributes(**given)


def exclusive(verifier: bytes, **given: Any) -> bytes:
    return u32(3) + verifier + attributes(**given)


def close(state: StateId) -> bytes:
    return u32(CLOSE, 0) + state.encoded()


def read(state: StateId, offset: int, count: int) -> bytes:
    return u32(READ) + state.encoded() + u64(offset) + u32(count)


def write(state: StateId, offset: int, data: bytes, stable: int = 0) -> bytes:
    return u32(WRITE) + state.encoded() + u64(offset) + u32(stable) + opaque(data)


def create(kind: int, name: str, *, link: str = "", mode: int | None = 0o755) -> bytes:
    what = u32(kind)
    if kind == 5:
        what += opaque(link.encode())
    elif kind in (3, 4):
        what += u32(1, 1)
    return u32(CREATE) + what + opaque(name.encode()) + attributes(mode=None if kind == 5 else mode)


def remove(name: str) -> bytes:
    return u32(REMOVE) + opaque(name.encode())


def rename(source: str, target: str) -> bytes:
    return u32(RENAME) + opaque(source.encode()) + opaque(target.encode())


def link(name: str) -> bytes:
    return u32(LINK) + opaque(name.encode())


def setattr_(state: StateId, given: bytes) -> bytes:
    return u32(SETATTR) + state.encoded() + given


def readdir(cookie: int = 0, *numbers: int, maxcount: int = 8192, verifier: bytes = bytes(8)) -> bytes:
    return u32(READDIR) + u64(cookie) + verifier + u32(maxcount, maxcount) + bitmap(*numbers)


def lock_new(
    kind: int, offset: int, length: int, state: StateId, owner: bytes, *, reclaim: bool = False
) -> bytes:
    return (
        u32(LOCK, kind, reclaim)
        + u64(offset, length)
        + u32(1, 0)
        + state.encoded()
        + u32(0)
        + u64(0)
        + opaque(owner)
    )


def lock_more(kind: int, offset: int, length: int, state: StateId) -> bytes:
    return u32(LOCK, kind, 0) + u64(offset, length) + u32(0) + state.encoded() + u32(0)


def lock_test(kind: int, offset: int, length: int, owner: bytes) -> bytes:
    return u32(LOCKT, kind) + u64(offset, length) + u64(0) + opaque(owner)


def unlock(state: StateId, offset: int, length: int) -> bytes:
    return u32(LOCKU, 1, 0) + state.encoded() + u64(offset, length)


@dataclass
class Client:
    """A client with a session; `path` is where its root lies below the server's."""

    connection: Connection
    path: tuple[str, ...] = ()
    owner: bytes = field(default_factory=lambda: b"client " + os.urandom(8))
    verifier: bytes = b"verifier"
    reclaims: bool = False

    def __post_init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """A client id, a session and (unless it reclaims) RECLAIM_COMPLETE."""
        status, found = self.connection.compound(exchange_id(self.owner, self.verifier))
        assert status == OK
        self.id: int = found[0].value["client"]
        status, found = self.connection.compound(create_session(self.id, found[0].value["sequence"]))
        assert status == OK
        self.session: bytes = found[0].value["session"]
        self.number = 0
        if not self.reclaims:
            self.reclaim_complete()

    def reclaim_complete(self) -> None:
        self.ok(u32(RECLAIM_COMPLETE, 0))

    def run(self, *operations: bytes, cache: bool = False) -> tuple[int, list[Result]]:
        self.number += 1
        status, found = self.connection.compound(
            sequence(self.session, self.number, cache=cache), *operations
        )
        return status, found[1:]

    def ok(self, *operations: bytes) -> list[Any]:
        """The values of the operations' results."""
        status, found = self.run(*operations)
        assert status == OK, (status, found[-1:] and found[-1].op)
        return [result.value for result in found]

    def status(self, *operations: bytes) -> int:
        return self.run(*operations)[0]

    def steps(self, *names: str) -> list[bytes]:
        """From the server's root to a path below the client's, an operation each."""
        return [u32(PUTROOTFH), *(lookup(name) for name in (*self.path, *names))]

    def handle(self, *names: str) -> bytes:
        value: bytes = self.ok(*self.steps(*names), u32(GETFH))[-1]
        return value

    def open(
        self, name: str, *, owner: bytes = b"owner", access: int = 3, make: bool = True
    ) -> tuple[bytes, StateId]:
        """The handle and stateid of a file of the root directory."""
        how = unchecked(mode=0o644) if make else None
        *_, opened, handle = self.ok(*self.steps(), open_(owner, name, access=access, create=how), u32(GETFH))
        return handle, opened["state"]

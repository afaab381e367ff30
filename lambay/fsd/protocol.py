"""What goes over fsd's control socket: one JSON object a line, requests carry `id`, answers echo it."""

from __future__ import annotations

from typing import Any

import msgspec


class Hello(msgspec.Struct, frozen=True):
    """`transport` is "io_uring" or "classic"; `passthrough`: the kernel may move file data itself."""

    version: str
    pid: int
    transport: str
    passthrough: bool = False


class Usage(msgspec.Struct, frozen=True):
    """What a volume holds: data in steps of 4 KiB, and `files` of any kind without the root directory.

    `counted` is false while the first count of an existing directory goes on.
    """

    bytes: int
    files: int
    counted: bool = True


class Identity(msgspec.Struct, frozen=True):
    """Whom a mount without a POSIX user acts as (root squash)."""

    uid: int
    gid: int


class PosixIdentity(msgspec.Struct, frozen=True):
    """An access point's PosixUser: replaces the client's identity on every operation."""

    uid: int
    gid: int
    gids: tuple[int, ...] = ()


class Create(msgspec.Struct, frozen=True):
    """Owner and mode bits (0o755) of a root directory that the mount creates when it is absent."""

    uid: int
    gid: int
    mode: int


class Permissions(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What IAM leaves a connection, whatever POSIX says of the files.

    `read_only` (no ClientWrite): changes fail with EROFS. `root_squash` (no ClientRootAccess): uid and gid 0
    act as 65534. `denied` (no ClientMount any more): everything fails with EACCES.
    """

    read_only: bool = False
    root_squash: bool = False
    denied: bool = False


class Mount(msgspec.Struct, frozen=True, kw_only=True):
    """One client connection to make. `root` is a path in the volume, `mountpoint` an existing directory here.

    `root` absent and `create` None fails with the code `RootDirectoryMissing`. `read_only` is the client's own
    wish and lasts as long as the mount; `permissions` may change while it stands.
    """

    mount: str
    volume: str
    mountpoint: str
    root: str = "/"
    create: Create | None = None
    posix: PosixIdentity | None = None
    anonymous: Identity = Identity(65534, 65534)
    read_only: bool = False
    permissions: Permissions = Permissions()


class NfsPlace(msgspec.Struct, frozen=True, kw_only=True):
    """What clients that connect from `network` (ADDRESS/BITS) may do; in the smallest that they are in this holds."""

    network: str
    permissions: Permissions = Permissions()
    secure_permissions: Permissions | None = None


class NfsExport(msgspec.Struct, frozen=True, kw_only=True):
    """Something that NFS clients can mount, as `/EXPORT` or as the root of a listener of its own.

    `posix` replaces the identity of every request; `anonymous` is who requests without one act as.
    `secure_permissions` are those of clients over TLS, where they differ; `places` are for clients in those networks,
    instead of both. File handles are bound to `export`.
    Without `listed` only connections whose root it is reach it.
    """

    export: str
    volume: str
    root: str = "/"
    create: Create | None = None
    posix: PosixIdentity | None = None
    anonymous: Identity = Identity(65534, 65534)
    permissions: Permissions = Permissions()
    secure_permissions: Permissions | None = None
    places: tuple[NfsPlace, ...] = ()
    listed: bool = True


class NfsTls(msgspec.Struct, frozen=True):
    """Certificate chain and key, PEM."""

    certificate: str
    key: str


class NfsQuestion(msgspec.Struct, frozen=True, tag_field="line", tag="question"):
    """A client that began with TLS shows a certificate, and waits.

    `export` is the root of its connection so far, None for the directory of all exports. `peer` is its address,
    `certificate` DER in hexadecimal digits.
    """

    visit: int
    export: str | None
    peer: str
    certificate: str


class NfsVisitEnded(msgspec.Struct, frozen=True, tag_field="line", tag="ended"):
    """The connection of the question that had this number is gone."""

    ended: int


class NfsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Who a client is, or a later change of what it may do.

    `root` is the export that its connection has as root from then on, None for the one so far. Connections of one
    `realm` share clients and sessions; without one, those of one root do. `permissions` replace those of exports;
    None leaves them in force.
    """

    visit: int
    root: str | None = None
    realm: str | None = None
    permissions: Permissions | None = None


class NfsKnown(msgspec.Struct, frozen=True):
    """Whether a connection that was answered about is there."""

    known: bool


class Mounted(msgspec.Struct, frozen=True):
    """A mount that stands; `connection` is its number under /sys/fs/fuse/connections."""

    mount: str
    device: str
    connection: int
    passthrough: bool = False


class Turned(msgspec.Struct, frozen=True):
    """A mount that was permitted, stalled, resumed or failed.

    `bypassing` is the number of its open files that the kernel reads and writes past the server: the change
    does not reach them until they are closed, or the processes that have them open end.
    """

    mount: str
    bypassing: int = 0


class Ledger(msgspec.Struct, frozen=True):
    """Burst credits at a moment: whole bytes, what is over, and nanoseconds since 1970 by the server's clock."""

    credit_bytes: int
    credit_fraction: int
    at: int


class Throughput(msgspec.Struct, frozen=True, omit_defaults=True):
    """`mode` is "bursting", "provisioned" (then with `bytes_per_second`) or "elastic"."""

    mode: str
    bytes_per_second: int | None = None


class Limits(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a volume is held to. `performance` is "general_purpose" or "max_io".

    `standard_bytes` is what bursting's baseline follows. Without `ledger` the credits go on as they are.
    `passthrough` is for files opened from now on; what bypasses the server cannot be held back. Without
    `enforce` credits are counted, and nothing is held back.
    """

    throughput: Throughput
    performance: str
    standard_bytes: int | None = None
    ledger: Ledger | None = None
    passthrough: bool | None = None
    enforce: bool = True


class Report(msgspec.Struct, frozen=True):
    """How a volume stands to its limits: throughput in bytes a second, credits in bytes.

    `percent_io_limit` is None with performance "max_io", as EFS has no such metric there.
    """

    burst_credit_balance: int
    permitted_throughput: int | None
    percent_io_limit: float | None
    ledger: Ledger


class Limited(msgspec.Struct, frozen=True):
    limits: Report


class Stats(msgspec.Struct, frozen=True):
    """Counters by volume and by mount, each by its name (`read_bytes`, `write_ops`, …).

    A limited volume has its report under `limits`.
    """

    volumes: dict[str, dict[str, Any]] = {}
    mounts: dict[str, dict[str, Any]] = {}


class Failure(msgspec.Struct, frozen=True):
    code: str
    message: str = ""
    errno: int | None = None


class Answer(msgspec.Struct, frozen=True):
    id: int
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    error: Failure | None = None

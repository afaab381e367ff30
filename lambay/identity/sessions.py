"""Temporary credentials as sealed tokens: what a session is travels inside its session token.

The token is authenticated encryption (AES-256-GCM) under a key that the store keeps, so a session needs no
record, outlives restarts, and ends with the key when the store is emptied.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import secrets
import string
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from lambay.aws import Principal
from lambay.store import Store

_NONCE_BYTES = 12
_SECRET_ALPHABET = string.ascii_letters + string.digits + "+/"
_ID_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_SESSIONS_KEPT = 8192


@dataclass(frozen=True, slots=True)
class Credentials:
    """Temporary credentials as STS hands them out; `expiration` is aware and in UTC."""

    access_key_id: str
    secret_access_key: str
    session_token: str
    expiration: datetime


class Session(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All that a session token says. `expires` is in seconds since the epoch, of Lambay's clock.

    `policy` and `policy_arns` are the session policies that were passed; `transitive_tags` names the tags
    that a role assumed from this session inherits. `federated_by` is the ARN of whoever made a federated
    user's session.
    """

    access_key_id: str
    secret: str
    kind: Literal["root", "user", "assumed-role", "federated-user"]
    account: str
    arn: str
    user_id: str
    expires: float
    role_arn: str | None = None
    session_name: str | None = None
    source_identity: str | None = None
    tags: dict[str, str] = {}
    transitive_tags: tuple[str, ...] = ()
    policy: str | None = None
    policy_arns: tuple[str, ...] = ()
    federated_by: str | None = None

    @property
    def principal(self) -> Principal:
        return Principal(
            kind=self.kind,
            account=self.account,
            arn=self.arn,
            user_id=self.user_id,
            access_key_id=self.access_key_id,
            role_arn=self.role_arn,
            session_name=self.session_name,
        )


class SealingKey(msgspec.Struct, frozen=True):
    """The server's own key, one a data directory."""

    material: bytes


class Sealer:
    """Seals bytes that leave the server and come back: opaque to the holder, unalterable, never stored."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._keys = store.collection("identity.sealing-keys", SealingKey)
        self._creating = asyncio.Lock()

    @property
    def key(self) -> SealingKey | None:
        """The key in force, None before the first seal and after the store was emptied."""
        return self._keys.get("current")

    async def seal(self, purpose: str, content: bytes) -> str:
        """`content` as base64 text that only `open` with the same `purpose` reads."""
        key = self.key or await self._create()
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return base64.b64encode(
            nonce + AESGCM(key.material).encrypt(nonce, content, purpose.encode())
        ).decode()

    def open(self, purpose: str, sealed: str) -> bytes | None:
        """What was sealed, None where `sealed` is not from here or was altered."""
        key = self.key
        if key is None:
            return None
        try:
            raw = base64.b64decode(sealed, validate=True)
            return AESGCM(key.material).decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], purpose.encode())
        except (binascii.Error, ValueError, InvalidTag):
            return None

    async def _create(self) -> SealingKey:
        async with self._creating:
            key = self.key
            if key is None:
                key = SealingKey(AESGCM.generate_key(bit_length=256))
                await self._store.commit(self._keys.put("current", key))
            return key


class Sessions:
    """Issues sessions and reads them back, remembering those it has read."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(Session).decode
        self._read: dict[str, tuple[str, Session, Principal]] = {}
        self._read_under: SealingKey | None = None

    async def issue(self, session: Session) -> Credentials:
        """The credentials of `session`."""
        token = await self._sealer.seal("session", self._encode(session))
        expiration = datetime.fromtimestamp(session.expires, UTC)
        return Credentials(session.access_key_id, session.secret, token, expiration)

    def read(self, access_key_id: str, token: str) -> tuple[Session, Principal] | None:
        """The session of `token`, None where it was not issued here or belongs to another access key."""
        if self._sealer.key is not self._read_under:
            self._read.clear()
            self._read_under = self._sealer.key
        known = self._read.get(access_key_id)
        if known is not None and known[0] == token:
            return known[1], known[2]
        content = self._sealer.open("session", token)
        if content is None:
            return None
        session = self._decode(content)
        if session.access_key_id != access_key_id:
            return None
        if len(self._read) >= _SESSIONS_KEPT:
            del self._read[next(iter(self._read))]
        principal = session.principal
        self._read[access_key_id] = (token, session, principal)
        return session, principal

    def of(self, principal: Principal) -> Session | None:
        """The session that `principal` was authenticated with, None for long-term credentials."""
        known = self._read.get(principal.access_key_id)
        return known[1] if known else None


def temporary_access_key_id(account: str) -> str:
    """A fresh `ASIA…` identifier that, like AWS's own, has the account's number in it."""
    number = (1 << 79) | (int(account) << 39) | secrets.randbits(39)
    return "ASIA" + base64.b32encode(number.to_bytes(10, "big")).decode()


def account_of_access_key_id(access_key_id: str) -> str | None:
    """The account in an access key identifier of AWS's form, None where it has none."""
    if len(access_key_id) != 20 or any(letter not in _ID_ALPHABET for letter in access_key_id[4:]):
        return None
    number = int.from_bytes(base64.b32decode(access_key_id[4:]), "big")
    account = f"{(number >> 39) & ((1 << 40) - 1):012d}"
    return account if len(account) == 12 else None


def secret_access_key() -> str:
    """Forty characters of the alphabet AWS uses, 240 bits."""
    return "".join(secrets.choice(_SECRET_ALPHABET) for _ in range(40))

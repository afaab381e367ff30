"""An identity over a throwaway store, and IAM records that a test writes down itself."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lambay.clock import Clock
from lambay.identity import Identity, SecurityTokens
from lambay.settings import Settings
from lambay.store import Store

ACCOUNT = "123456789012"


@dataclass(frozen=True)
class Key:
    access_key_id: str
    secret_access_key: str
    active: bool = True
    account: str = ACCOUNT
    user_arn: str = f"arn:aws:iam::{ACCOUNT}:user/ann"
    user_id: str = "AIDAANN"


@dataclass(frozen=True)
class RoleRecord:
    name: str
    trust_policy: str
    max_session_duration: int = 3600
    account: str = ACCOUNT
    role_id: str = "AROAEXAMPLEID"

    @property
    def arn(self) -> str:
        return f"arn:aws:iam::{self.account}:role/{self.name}"


@dataclass(frozen=True)
class Attached:
    policies: tuple[tuple[str, str], ...] = ()
    boundary: tuple[str, str] | None = None
    tags: dict[str, str] = field(default_factory=dict)


@dataclass
class Records:
    keys: dict[str, Key] = field(default_factory=dict)
    roles: dict[str, RoleRecord] = field(default_factory=dict)
    attached: dict[str, Attached] = field(default_factory=dict)
    managed: dict[str, str] = field(default_factory=dict)
    providers: set[str] = field(default_factory=set)

    async def access_key(self, access_key_id: str) -> Key | None:
        return self.keys.get(access_key_id)

    async def role(self, role_arn: str) -> RoleRecord | None:
        return self.roles.get(role_arn)

    async def attachments(self, user_or_role_arn: str) -> Attached | None:
        return self.attached.get(user_or_role_arn)

    async def identity_provider(self, kind: str, name: str, account: str) -> bool:
        return f"{kind}/{name}" in self.providers

    async def managed_policy(self, policy_arn: str, account: str) -> tuple[str, str] | None:
        text = self.managed.get(policy_arn)
        return (policy_arn, text) if text is not None else None

    def add_role(self, name: str, principal: object = "*", **given: object) -> RoleRecord:
        statement = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": principal}
        statement |= given.pop("statement", {})  # type: ignore[operator]
        role = RoleRecord(name, json.dumps({"Version": "2012-10-17", "Statement": [statement]}), **given)  # type: ignore[arg-type]
        self.roles[role.arn] = role
        return role


@pytest.fixture
def settings() -> Settings:
    return Settings(account=ACCOUNT, iam="off")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def records() -> Records:
    return Records()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "lambay.db")
    yield store
    store.close()


@pytest.fixture
def identity(store: Store, records: Records, settings: Settings, clock: Clock) -> Identity:
    return Identity(store, records, settings, clock)


@pytest.fixture
def sts(identity: Identity, records: Records, settings: Settings, clock: Clock) -> SecurityTokens:
    return SecurityTokens(identity, records, settings, clock)

"""The words every room shares: a call, who makes it, how it fails, and what names look like.

Nothing here knows HTTP, the store or any one service.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

DEFAULT_PARTITION = "aws"


@dataclass(frozen=True, slots=True)
class Principal:
    """Who signed a request.

    `kind` follows IAM's principal types; `arn` is what `sts:GetCallerIdentity` reports and `user_id`
    its `UserId`. `role_arn` and `session_name` are set for assumed roles only.
    """

    kind: Literal["root", "user", "assumed-role", "federated-user", "service", "anonymous"]
    account: str
    arn: str
    user_id: str
    access_key_id: str = ""
    role_arn: str | None = None
    session_name: str | None = None


@dataclass(frozen=True, slots=True)
class Call:
    """One API call as an operation sees it, after authentication.

    `account` and `region` say whose resources it is about; `headers` are the HTTP request's, lower-cased.
    """

    request_id: str
    account: str
    region: str
    principal: Principal
    service: str = ""
    operation: str = ""
    source_ip: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


class AWSError(Exception):
    """An error of the API's own model, raised where it is known and rendered in one place.

    `code` is the error shape's name or code (`FileSystemNotFound`), `members` its other members by their
    model names. `status` is needed only for codes that the service's model does not have.
    """

    def __init__(self, code: str, message: str, *, status: int | None = None, **members: Any) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status
        self.members = members


class Service:
    """A service that Lambay owns.

    Each operation is an async method named as boto3 names it (`create_file_system`), taking the call and
    the parsed input, returning the output members. An operation without a method is not implemented:
    the methods are the coverage.
    """

    service_name: ClassVar[str]


class Neighbours(Protocol):
    """The services that are not ours, called as boto3 would."""

    async def call(
        self,
        service: str,
        operation: str,
        input: dict[str, Any],
        *,
        account: str,
        region: str,
        derived: bool = False,
    ) -> dict[str, Any]:
        """The operation's output. Raises AWSError with the neighbour's code; `derived` changes are not kept."""
        ...


class Ask(Protocol):
    """Any AWS operation, done as a principal and through its authorization. Raises AWSError."""

    async def __call__(
        self,
        principal: Principal,
        service: str,
        operation: str,
        input: Mapping[str, Any],
        *,
        account: str,
        region: str,
    ) -> dict[str, Any]: ...


def arn(service: str, region: str, account: str, resource: str) -> str:
    """`arn:aws:SERVICE:REGION:ACCOUNT:RESOURCE`; see the IAM User Guide, "Amazon Resource Names"."""
    return f"arn:{DEFAULT_PARTITION}:{service}:{region}:{account}:{resource}"


@dataclass(frozen=True, slots=True)
class Arn:
    """An ARN in its six parts."""

    partition: str
    service: str
    region: str
    account: str
    resource: str

    @classmethod
    def parse(cls, text: str) -> Arn:
        """Raises ValueError where `text` has not the six parts of an ARN."""
        parts = text.split(":", 5)
        if len(parts) != 6 or parts[0] != "arn":
            raise ValueError(f"not an ARN: {text!r}")
        return cls(*parts[1:])

    def __str__(self) -> str:
        return ":".join(("arn", self.partition, self.service, self.region, self.account, self.resource))


def resource_id(prefix: str, digits: int = 17) -> str:
    """A fresh identifier such as `fs-0123456789abcdef0`."""
    return f"{prefix}-{secrets.token_hex((digits + 1) // 2)[:digits]}"

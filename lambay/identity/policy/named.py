"""The Principal and NotPrincipal elements: whom a statement of a resource-based policy names.

IAM User Guide, "AWS JSON policy elements: Principal" and "... NotPrincipal".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Any, Literal

from lambay.aws import Principal
from lambay.identity.policy.errors import MalformedPolicy

# A type of principal (`AWS`, `Service`, `Federated`, `CanonicalUser`) and a name of that type.
Name = tuple[str, str]

_TYPES = ("AWS", "Service", "Federated", "CanonicalUser")
_ACCOUNT = re.compile(r"(\d{12})|arn:aws[a-z-]*:iam::(\d{12}):root")
_EVERYONE = ("AWS", "*")


class Grant(IntEnum):
    """How a statement names the caller, which decides what can still limit what it allows.

    ACCOUNT: its account, which delegates to the account's identity-based policies. ENTITY: the role, or the
    user who federated, whose session it is; a boundary or session policy still limits. DIRECT: the user or
    session itself, or everyone; nothing in the same account limits but an explicit deny.
    """

    NONE = 0
    ACCOUNT = 1
    ENTITY = 2
    DIRECT = 3


@dataclass(frozen=True, slots=True)
class Caller:
    """The names by which a principal can be named, from itself to its account."""

    account: str
    direct: frozenset[Name]
    entity: frozenset[Name]
    whole_account: frozenset[Name]

    @property
    def layers(self) -> tuple[frozenset[Name], ...]:
        return tuple(layer for layer in (self.direct, self.entity, self.whole_account) if layer)


@lru_cache(maxsize=4096)
def caller(principal: Principal, federated_by: str | None = None) -> Caller:
    """`federated_by` is the ARN of the user or root whose GetFederationToken made the session.

    A service's Principal has the service principal's name (`lambda.amazonaws.com`) as `user_id`.
    """
    account = principal.account
    whole_account = frozenset({("AWS", account)}) if account else frozenset()
    if principal.kind == "service":
        return Caller(
            "", frozenset({("Service", principal.user_id), ("Service", "*")}), frozenset(), frozenset()
        )
    if principal.kind == "anonymous":
        return Caller("", frozenset(), frozenset(), frozenset())
    if principal.kind == "root":
        return Caller(account, whole_account, frozenset(), frozenset())
    direct = frozenset({("AWS", principal.arn), ("AWS", principal.user_id)})
    entity: frozenset[Name] = frozenset()
    if principal.kind == "assumed-role":
        role_id = principal.user_id.partition(":")[0]
        entity = frozenset(("AWS", name) for name in (principal.role_arn, role_id) if name)
    elif principal.kind == "federated-user" and federated_by is not None:
        entity = frozenset({_name("AWS", federated_by)})
    return Caller(account, direct, entity - whole_account, whole_account)


@dataclass(frozen=True, slots=True)
class PrincipalElement:
    """Whom a statement names, or with `excluding` (NotPrincipal) whom it does not."""

    names: frozenset[Name]
    excluding: bool

    def grant(self, who: Caller) -> Grant:
        """How an Allow names `who`. NotPrincipal allows everyone of whom no name is listed."""
        if self.excluding:
            listed = _EVERYONE in self.names or any(not self.names.isdisjoint(layer) for layer in who.layers)
            return Grant.NONE if listed else Grant.DIRECT
        if _EVERYONE in self.names or not self.names.isdisjoint(who.direct):
            return Grant.DIRECT
        if not self.names.isdisjoint(who.entity):
            return Grant.ENTITY
        return Grant.NONE if self.names.isdisjoint(who.whole_account) else Grant.ACCOUNT

    def denies(self, who: Caller) -> bool:
        """Whether a Deny names `who`.

        NotPrincipal spares only those who are listed with all their names: session, role and account, since
        nobody may do more than the account and the role that he is of.
        """
        if not self.excluding:
            return self.grant(who) is not Grant.NONE
        if _EVERYONE in self.names:
            return False
        return not who.layers or any(self.names.isdisjoint(layer) for layer in who.layers)


def parse_principal(element: Any, at: str, kind: Literal["Principal", "NotPrincipal"]) -> PrincipalElement:
    """Raises MalformedPolicy naming what is no principal."""
    if element == "*":
        return PrincipalElement(frozenset({_EVERYONE}), kind == "NotPrincipal")
    if not isinstance(element, dict) or not element:
        raise MalformedPolicy(f'{at} must be "*" or an object such as {{"AWS": "111122223333"}}.')
    names: set[Name] = set()
    for type_, given in element.items():
        if type_ not in _TYPES:
            raise MalformedPolicy(f"{at}: {type_!r} is not one of {', '.join(_TYPES)}.")
        names.update(_name(type_, name) for name in _texts(given, f"{at}.{type_}"))
    return PrincipalElement(frozenset(names), kind == "NotPrincipal")


def _texts(given: Any, at: str) -> Sequence[str]:
    texts = given if isinstance(given, list) else [given]
    for text in texts:
        if not isinstance(text, str) or not text:
            raise MalformedPolicy(f"{at} must be a string or a list of strings.")
        if "*" in text and text != "*":
            raise MalformedPolicy(f"{at}: {text!r}: a wildcard cannot match part of a name or ARN.")
    return texts


def _name(type_: str, text: str) -> Name:
    found = _ACCOUNT.fullmatch(text) if type_ == "AWS" else None
    return (type_, (found[1] or found[2]) if found else text)

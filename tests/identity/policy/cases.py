"""Short ways to write principals, policies and requests."""

from __future__ import annotations

from typing import Any

from lambay.aws import Principal
from lambay.identity.policy import Policies, Policy, Request, Verdict, context, evaluate, principal_context

HERE = "111122223333"
THERE = "444455556666"

USER = Principal(kind="user", account=HERE, arn=f"arn:aws:iam::{HERE}:user/team/alice", user_id="AIDAALICE")
BOB = Principal(kind="user", account=HERE, arn=f"arn:aws:iam::{HERE}:user/bob", user_id="AIDABOB")
ROOT = Principal(kind="root", account=HERE, arn=f"arn:aws:iam::{HERE}:root", user_id=HERE)
ROLE_ARN = f"arn:aws:iam::{HERE}:role/service/reader"
ROLE = Principal(
    kind="assumed-role",
    account=HERE,
    arn=f"arn:aws:sts::{HERE}:assumed-role/reader/night",
    user_id="AROAREADER:night",
    role_arn=ROLE_ARN,
    session_name="night",
)
FEDERATED = Principal(
    kind="federated-user",
    account=HERE,
    arn=f"arn:aws:sts::{HERE}:federated-user/carol",
    user_id=f"{HERE}:carol",
    session_name="carol",
)
STRANGER = Principal(kind="user", account=THERE, arn=f"arn:aws:iam::{THERE}:user/eve", user_id="AIDAEVE")
STRANGE_ROOT = Principal(kind="root", account=THERE, arn=f"arn:aws:iam::{THERE}:root", user_id=THERE)
SERVICE = Principal(kind="service", account="", arn="", user_id="lambda.amazonaws.com")
ANYONE = Principal(kind="anonymous", account="", arn="", user_id="anonymous")

ACTION = "s3:GetObject"
THING = "arn:aws:s3:::bucket/key"


def statement(effect: str = "Allow", **elements: Any) -> dict[str, Any]:
    """Everything on everything, but for what `elements` says; None takes an element away."""
    made: dict[str, Any] = {"Effect": effect}
    if "NotAction" not in elements:
        made["Action"] = "*"
    if "NotResource" not in elements:
        made["Resource"] = "*"
    made |= elements
    return {name: value for name, value in made.items() if value is not None}


def allow(**elements: Any) -> dict[str, Any]:
    return statement("Allow", **elements)


def deny(**elements: Any) -> dict[str, Any]:
    return statement("Deny", **elements)


def document(*statements: dict[str, Any], version: str | None = "2012-10-17") -> dict[str, Any]:
    made: dict[str, Any] = {"Statement": list(statements)}
    return made if version is None else {"Version": version, **made}


def identity(*statements: dict[str, Any], name: str = "own") -> Policy:
    return Policy.parse(document(*statements), name=name)


def resource(*statements: dict[str, Any], name: str = "of-the-resource") -> Policy:
    return Policy.parse(document(*statements), name=name, attached_to="resource")


def request(
    principal: Principal = USER,
    action: str = ACTION,
    on: str | tuple[str | None, ...] = THING,
    keys: dict[str, Any] | None = None,
    **others: Any,
) -> Request:
    resources = (on,) if isinstance(on, str) else on
    known = {**principal_context(principal), **context(keys or {})}
    return Request(principal, action, resources, known, **others)


def decide(asked: Request, **policies: Any) -> Verdict:
    return evaluate(asked, Policies(**policies))

"""Decisions about mounts, by the EFS User Guide's examples."""

from __future__ import annotations

from typing import Any

import pytest

from lambay.aws import Principal
from lambay.identity.policy import MountDecision, Policy, mount_decision

from .cases import (
    ANYONE,
    FEDERATED,
    HERE,
    ROLE,
    ROLE_ARN,
    ROOT,
    STRANGER,
    THERE,
    allow,
    deny,
    identity,
    resource,
)

FILE_SYSTEM = f"arn:aws:elasticfilesystem:us-east-2:{HERE}:file-system/fs-12345678"
ACCESS_POINT = f"arn:aws:elasticfilesystem:us-east-2:{HERE}:access-point/fsap-12345678"
OTHER_ACCESS_POINT = f"arn:aws:elasticfilesystem:us-east-2:{HERE}:access-point/fsap-87654321"
MOUNT = "elasticfilesystem:ClientMount"
WRITE = "elasticfilesystem:ClientWrite"
ROOT_ACCESS = "elasticfilesystem:ClientRootAccess"
READ_WRITE = [MOUNT, WRITE]
ANY = "elasticfilesystem:Client*"
THROUGH = {"Bool": {"elasticfilesystem:AccessedViaMountTarget": "true"}}
POINT = {"StringEquals": {"elasticfilesystem:AccessPointArn": ACCESS_POINT}}
INSECURE = {"Bool": {"aws:SecureTransport": "false"}}


def mount(policy: Policy | None, who: Principal = ROLE, **given: Any) -> MountDecision:
    known: dict[str, Any] = {
        "access_point_arn": ACCESS_POINT,
        "secure_transport": True,
        "via_mount_target": True,
        **given,
    }
    return mount_decision(FILE_SYSTEM, policy, who, **known)


def rights(decision: MountDecision) -> str:
    letters = (
        (decision.client_mount, "m"),
        (decision.client_write, "w"),
        (decision.client_root_access, "r"),
    )
    return "".join(letter for has, letter in letters if has)


def of(who: str = ROLE_ARN, action: Any = ANY, **elements: Any) -> dict[str, Any]:
    return allow(Principal={"AWS": who}, Action=action, Resource=FILE_SYSTEM, **elements)


def own(action: Any = ANY, on: Any = FILE_SYSTEM, **elements: Any) -> tuple[Policy, ...]:
    return (identity(allow(Action=action, Resource=on, **elements)),)


NOBODY = resource(of("arn:aws:iam::111122223333:role/another"))
EVERYBODY = resource(of("*", READ_WRITE, Condition=THROUGH))


@pytest.mark.parametrize(
    ("policy", "given", "has"),
    [
        # No file system policy.
        (None, {}, "mwr"),
        (None, {"who": ANYONE}, "mwr"),
        (None, {"who": STRANGER}, "mwr"),
        (None, {"who": FEDERATED}, "mwr"),
        (None, {"secure_transport": False}, "mwr"),
        (None, {"access_point_arn": None}, "mwr"),
        (None, {"identity": own(MOUNT)}, "mwr"),
        (None, {"via_mount_target": False}, ""),
        (None, {"who": ANYONE, "via_mount_target": False}, ""),
        (None, {"identity": (identity(deny(Action=WRITE)),)}, "mr"),
        # A policy for somebody else: the identity's own policies may still allow.
        (NOBODY, {}, ""),
        (NOBODY, {"who": ANYONE}, ""),
        (NOBODY, {"who": ROOT}, "mwr"),
        (NOBODY, {"identity": own()}, "mwr"),
        (NOBODY, {"identity": own(MOUNT)}, "m"),
        (NOBODY, {"identity": own(READ_WRITE)}, "mw"),
        (NOBODY, {"identity": own([MOUNT, ROOT_ACCESS])}, "mr"),
        (NOBODY, {"identity": own("*", "*")}, "mwr"),
        (NOBODY, {"identity": own(ANY, FILE_SYSTEM + "9")}, ""),
        (NOBODY, {"identity": own(), "boundary": own(MOUNT)[0]}, "m"),
        (NOBODY, {"identity": own(), "session": own(READ_WRITE)}, "mw"),
        (NOBODY, {"identity": own(Condition=POINT)}, "mwr"),
        (NOBODY, {"identity": own(Condition=POINT), "access_point_arn": OTHER_ACCESS_POINT}, ""),
        (NOBODY, {"identity": own(Condition=POINT), "access_point_arn": None}, ""),
        # The resource is never the access point.
        (NOBODY, {"identity": own(ANY, ACCESS_POINT)}, ""),
        (NOBODY, {"identity": own(ANY, [ACCESS_POINT, FILE_SYSTEM])}, "mwr"),
        # The policy allows.
        (resource(of()), {}, "mwr"),
        (resource(of(action=MOUNT)), {}, "m"),
        (resource(of(action=MOUNT)), {"identity": own(WRITE)}, "mw"),
        (resource(of()), {"boundary": own(MOUNT)[0]}, "m"),
        (resource(of(ROLE.arn)), {"boundary": own(MOUNT)[0]}, "mwr"),
        (resource(of(HERE)), {}, ""),
        (resource(of(HERE)), {"identity": own(MOUNT)}, "m"),
        (EVERYBODY, {}, "mw"),
        (EVERYBODY, {"who": ANYONE}, "mw"),
        (EVERYBODY, {"who": ANYONE, "via_mount_target": False}, ""),
        (resource(of(Condition=POINT)), {}, "mwr"),
        (resource(of(Condition=POINT)), {"access_point_arn": OTHER_ACCESS_POINT}, ""),
        (resource(allow(Principal="*", Action=ANY, Resource=None)), {"who": ANYONE}, "mwr"),
        # The policy denies.
        (
            resource(of(), deny(Principal="*", Action="*", Condition=INSECURE)),
            {"secure_transport": False},
            "",
        ),
        (resource(of(), deny(Principal="*", Action="*", Condition=INSECURE)), {}, "mwr"),
        (resource(of(), deny(Principal="*", Action=ROOT_ACCESS)), {"identity": own()}, "mw"),
        (resource(deny(Principal={"AWS": ROLE_ARN}, Action=WRITE)), {"identity": own()}, "mr"),
        # Another account needs both, and further keys are known.
        (resource(of(THERE)), {"who": STRANGER}, ""),
        (resource(of(THERE)), {"who": STRANGER, "identity": own(READ_WRITE)}, "mw"),
        (NOBODY, {"who": STRANGER, "identity": own()}, ""),
        (
            resource(of(Condition={"StringEquals": {"aws:SourceVpc": "vpc-1"}})),
            {"keys": {"aws:SourceVpc": "vpc-1"}},
            "mwr",
        ),
        (resource(of(Condition={"StringEquals": {"aws:SourceVpc": "vpc-1"}})), {}, ""),
        (
            NOBODY,
            {
                "identity": own(Condition={"StringEquals": {"aws:PrincipalTag/team": "x"}}),
                "tags": {"Team": "x"},
            },
            "mwr",
        ),
    ],
)
def test_who_may_what(policy: Policy | None, given: dict[str, Any], has: str) -> None:
    assert rights(mount(policy, **given)) == has


def test_the_reasons_are_sentences() -> None:
    decision = mount(resource(of(action=MOUNT)), identity=(identity(deny(Action=ROOT_ACCESS), name="n"),))
    assert decision.reasons == {
        MOUNT: f"User: {ROLE.arn} is authorized to perform: {MOUNT} on resource: {FILE_SYSTEM} "
        "by statement 1 of resource-based policy of-the-resource",
        WRITE: f"User: {ROLE.arn} is not authorized to perform: {WRITE} on resource: {FILE_SYSTEM} "
        f"because no identity-based policy allows the {WRITE} action",
        ROOT_ACCESS: f"User: {ROLE.arn} is not authorized to perform: {ROOT_ACCESS} on resource: "
        f"{FILE_SYSTEM} with an explicit deny in an identity-based policy",
    }
    assert decision.hints == ()


def test_an_access_point_as_resource_is_pointed_out() -> None:
    role = identity(allow(Sid="Mine", Action=ANY, Resource=ACCESS_POINT), name="mounts")
    assert mount(NOBODY, identity=(role,)).hints == (
        f"In identity-based policy mounts, statement 'Mine' has the access point {ACCESS_POINT} as Resource and "
        f"never applies to a mount: name {FILE_SYSTEM} there, and the access point in a condition on "
        "elasticfilesystem:AccessPointArn",
    )
    assert mount(None, identity=(role,)).hints == ()
    forbids = identity(deny(Action=WRITE, Resource=ACCESS_POINT))
    assert len(mount(None, identity=(forbids,)).hints) == 1
    assert mount(NOBODY, identity=(forbids,)).hints == ()

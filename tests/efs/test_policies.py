import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambay.aws import AWSError, Principal
from lambay.efs.policies import check_policy, locks_out
from tests.efs.surroundings import ACCOUNT, REGION, House, call

ARN = f"arn:aws:elasticfilesystem:{REGION}:{ACCOUNT}:file-system/fs-0123456789abcdef0"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/search"


def statement(**changes: Any) -> dict[str, Any]:
    made = {
        "Effect": "Allow",
        "Principal": {"AWS": ROLE},
        "Action": ["elasticfilesystem:ClientMount", "elasticfilesystem:ClientWrite"],
        "Resource": ARN,
        "Condition": {"Bool": {"elasticfilesystem:AccessedViaMountTarget": "true"}},
    } | changes
    return {name: value for name, value in made.items() if value is not None}


def policy(*statements: Any, **changes: Any) -> str:
    return json.dumps({"Version": "2012-10-17", "Id": "p", "Statement": list(statements)} | changes)


GOOD = [
    statement(),
    statement(Resource=None),
    statement(Resource="*"),
    statement(Resource=ARN[:-3] + "*"),
    statement(Principal="*", Condition=None),
    statement(Principal={"AWS": "*"}),
    statement(Principal={"AWS": [ACCOUNT, f"arn:aws:iam::{ACCOUNT}:root"]}),
    statement(Principal={"AWS": f"arn:aws:sts::{ACCOUNT}:assumed-role/search/session"}),
    statement(Principal={"Service": "lambda.amazonaws.com"}),
    statement(Principal=None, NotPrincipal={"AWS": ROLE}),
    statement(Action="*"),
    statement(Action="elasticfilesystem:Client*"),
    statement(Action=None, NotAction="elasticfilesystem:ClientRootAccess"),
    statement(Effect="Deny", Principal={"AWS": "*"}, Condition={"Bool": {"aws:SecureTransport": "false"}}),
    statement(
        Condition={"ForAnyValue:StringLikeIfExists": {"aws:PrincipalArn": ["a", "b"]}, "Null": {"k": True}}
    ),
    statement(Sid="one"),
]


@pytest.mark.parametrize("good", GOOD, ids=str)
def test_policies_that_are_accepted(good: dict[str, Any]) -> None:
    check_policy(policy(good), ARN)
    check_policy(json.dumps({"Statement": good}), ARN)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "JSON"),
        ("[]", "object"),
        ("nothing", "JSON"),
        ('{"Statement": [], "Statement": []}', "twice"),
        ("[" * 100_000, "limit"),
        ("[" * 19_000, "JSON"),
        (policy(), "empty"),
        (json.dumps({"Version": "2012-10-17"}), "Statement is required"),
        (policy(statement(), Version="2020-01-01"), "Version"),
        (policy(statement(), Id=7), "Id"),
        (policy(statement(), Extra=1), "Extra"),
        (policy("word"), r"Statement\[0\] must be"),
        (policy(statement(), statement(Effect="Permit")), r"Statement\[1\].Effect"),
        (policy(statement(Effect=None)), "Effect"),
        (policy(statement(Sid=4)), "Sid"),
        (policy(statement(Sid="a"), statement(Sid="a")), "used twice"),
        (policy(statement(Surprise="x")), "Surprise"),
        (policy(statement(Principal=None)), "exactly one of Principal"),
        (policy(statement(NotPrincipal="*")), "exactly one of Principal"),
        (policy(statement(Action=None)), "exactly one of Action"),
        (policy(statement(NotResource="*")), "both Resource"),
        (policy(statement(Principal="everybody")), "Principal must be"),
        (policy(statement(Principal={})), "Principal must be"),
        (policy(statement(Principal={"AWS": []})), "Principal.AWS must be"),
        (policy(statement(Principal={"AWS": "somebody"})), "'somebody'"),
        (policy(statement(Principal={"AWS": "arn:aws:s3:::bucket"})), "bucket"),
        (policy(statement(Principal={"Person": "x"})), "Person"),
        (policy(statement(Principal={"Service": "lambda"})), "service principal"),
        (policy(statement(Action="s3:GetObject")), "s3:GetObject"),
        (policy(statement(Action=[])), "Action must be"),
        (policy(statement(Action=7)), "Action must be"),
        (policy(statement(Resource=ARN[:-1] + "1")), "not this file system"),
        (policy(statement(Resource="arn:aws:s3:::bucket")), "not this file system"),
        (policy(statement(Condition="x")), "Condition must be"),
        (policy(statement(Condition={"StringAlmost": {"a": "b"}})), "StringAlmost"),
        (policy(statement(Condition={"Bool": {}})), "Condition.Bool"),
        (policy(statement(Condition={"Bool": {"k": {}}})), "Condition.Bool.k"),
    ],
)
def test_policies_that_are_refused(text: str, says: str) -> None:
    with pytest.raises(AWSError, match=says) as refused:
        check_policy(text, ARN)
    assert refused.value.code == "InvalidPolicyException"


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=5)
    | st.sampled_from(["*", "Allow", ARN, ROLE]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "Version",
                    "Statement",
                    "Effect",
                    "Principal",
                    "Action",
                    "Resource",
                    "Condition",
                    "AWS",
                    "Bool",
                    "x",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(
    JSON
    | JSON.map(lambda inner: {"Statement": inner})
    | JSON.map(lambda inner: {"Statement": [statement(), inner]})
)
def test_any_json_is_a_policy_or_an_error_of_ours(document: Any) -> None:
    code, found = "", None
    try:
        found = check_policy(json.dumps(document), ARN)
    except AWSError as error:
        code = error.code
    assert code == "InvalidPolicyException" or locks_out(found or {}, call().principal, ARN) in (True, False)


USER = Principal("user", ACCOUNT, f"arn:aws:iam::{ACCOUNT}:user/ann", "AIDAEXAMPLE")
SESSION = Principal(
    "assumed-role", ACCOUNT, f"arn:aws:sts::{ACCOUNT}:assumed-role/search/s", "AROAEXAMPLE:s", role_arn=ROLE
)


@pytest.mark.parametrize(
    ("changes", "principal", "locked"),
    [
        ({}, USER, False),
        ({"Effect": "Deny", "Principal": "*", "Action": "*"}, USER, True),
        ({"Effect": "Deny", "Principal": {"AWS": "*"}, "Action": "elasticfilesystem:Put*"}, USER, True),
        ({"Effect": "Deny", "Principal": {"AWS": ACCOUNT}, "Action": "*"}, USER, True),
        ({"Effect": "Deny", "Principal": {"AWS": USER.arn}, "Action": "*"}, USER, True),
        ({"Effect": "Deny", "Principal": {"AWS": ROLE}, "Action": "*"}, USER, False),
        ({"Effect": "Deny", "Principal": {"AWS": ROLE}, "Action": "*"}, SESSION, True),
        ({"Effect": "Deny", "Principal": "*"}, USER, False),
        ({"Effect": "Deny", "Principal": None, "NotPrincipal": {"AWS": ROLE}, "Action": "*"}, USER, True),
        ({"Effect": "Deny", "Principal": None, "NotPrincipal": {"AWS": ROLE}, "Action": "*"}, SESSION, False),
        (
            {
                "Effect": "Deny",
                "Principal": "*",
                "Action": None,
                "NotAction": "elasticfilesystem:ClientMount",
            },
            USER,
            True,
        ),
        (
            {"Effect": "Deny", "Principal": "*", "Action": None, "NotAction": "elasticfilesystem:P*"},
            USER,
            False,
        ),
    ],
)
def test_who_is_locked_out(changes: dict[str, Any], principal: Principal, locked: bool) -> None:
    found = check_policy(policy(statement(**{"Condition": None} | changes)), ARN)
    assert locks_out(found, principal, ARN) is locked


def test_a_conditional_denial_locks_nobody_out_for_certain() -> None:
    denial = statement(
        Effect="Deny", Principal="*", Action="*", Condition={"Bool": {"aws:SecureTransport": "false"}}
    )
    assert not locks_out(check_policy(policy(denial), ARN), USER, ARN)


async def test_a_policy_is_put_described_and_deleted(house: House) -> None:
    identifier = await house.make()
    asked = {"FileSystemId": identifier}
    with pytest.raises(AWSError, match="PolicyNotFound"):
        await house.efs.describe_file_system_policy(call(), asked)
    text = policy(statement(Resource=None))
    stored = {"FileSystemId": identifier, "Policy": text}
    assert await house.efs.put_file_system_policy(call(), asked | {"Policy": text}) == stored
    assert await house.efs.describe_file_system_policy(call(), asked) == stored
    source = await house.efs.mount_source(identifier, account=ACCOUNT, region=REGION)
    assert source.file_system_policy == text
    await house.efs.delete_file_system_policy(call(), asked)
    await house.efs.delete_file_system_policy(call(), asked)
    with pytest.raises(AWSError, match="PolicyNotFound"):
        await house.efs.describe_file_system_policy(call(), asked)


async def test_locking_oneself_out_has_to_be_meant(house: House) -> None:
    identifier = await house.make()
    denial = statement(Effect="Deny", Principal="*", Action="*", Resource=None, Condition=None)
    given = {"FileSystemId": identifier, "Policy": policy(denial)}
    with pytest.raises(AWSError, match="InvalidPolicyException"):
        await house.efs.put_file_system_policy(call(user="ann"), given)
    with pytest.raises(AWSError, match="PolicyNotFound"):
        await house.efs.describe_file_system_policy(call(), {"FileSystemId": identifier})
    await house.efs.put_file_system_policy(call(user="ann"), given | {"BypassPolicyLockoutSafetyCheck": True})

"""Any input that the model allows is answered as the model says, or refused with an error of the model."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from botocore import xform_name
from botocore.loaders import Loader
from botocore.model import ServiceModel, Shape
from botocore.validate import ParamValidator
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lambay.aws import AWSError
from tests.efs.surroundings import ACCOUNT, REGION, House, call, opened

MODEL = ServiceModel(Loader().load_service_model("efs", "service-2"), "efs")

# What `FS`, `TARGET` and `POINT` stand for is known when the house stands.
WORDS: dict[str, st.SearchStrategy[Any]] = {
    "FileSystemId": st.sampled_from(["FS", "OTHER", "FS-ARN", "fs-00000000"]),
    "SourceFileSystemId": st.sampled_from(["FS", "OTHER", "fs-00000000"]),
    "MountTargetId": st.sampled_from(["TARGET", "fsmt-00000000"]),
    "AccessPointId": st.sampled_from(["POINT", "POINT-ARN", "fsap-00000000"]),
    "ResourceId": st.sampled_from(["FS", "POINT", "FS-ARN", "POINT-ARN", "fs-00000000", "fsap-00000000"]),
    "SubnetId": st.sampled_from([f"subnet-{number:08x}" for number in range(1, 7)]),
    "IpAddress": st.sampled_from(["10.0.1.4", "10.0.1.99", "10.0.2.50", "999.1.1.1"]),
    "Ipv6Address": st.just("2001:db8::1"),
    "AvailabilityZoneName": st.sampled_from(["eu-west-1a", "us-east-1b", "nowhere"]),
    "Region": st.sampled_from([REGION, "us-east-1"]),
    "KmsKeyId": st.sampled_from(["alias/aws/elasticfilesystem", "alias/disabled", "alias/nobody"]),
    "RoleArn": st.just("arn:aws:iam::111122223333:role/replicator"),
    "Policy": st.sampled_from(
        [
            "{}",
            "no",
            json.dumps({"Statement": {"Effect": "Allow", "Principal": "*", "Action": "*"}}),
            json.dumps({"Statement": {"Effect": "Deny", "Principal": "*", "Action": "*"}}),
        ]
    ),
    "Path": st.sampled_from(["/", "/a", "/a/b/c/d", "/a/b/c/d/e"]),
    "Permissions": st.sampled_from(["755", "0000", "7777"]),
    "Key": st.sampled_from(["Name", "a", "b"]),
    "SecurityGroup": st.sampled_from([f"sg-{number:08x}" for number in range(9)]),
    "TagKey": st.sampled_from(["Name", "a", "c"]),
    "CreationToken": st.sampled_from(["x", "y"]),
    "ClientToken": st.sampled_from(["x", "y"]),
}


def inputs(shape: Shape, name: str = "") -> st.SearchStrategy[Any]:
    if name in WORDS:
        return WORDS[name]
    kind, bounds = shape.type_name, shape.metadata
    if kind == "structure":
        members = {member: inputs(inner, member) for member, inner in shape.members.items()}
        required = {
            member: members.pop(member) for member in list(members) if member in shape.required_members
        }
        return st.fixed_dictionaries(required, optional=members)
    if kind == "list":
        name = name.removesuffix("s")
        inner = WORDS[name] if name in ("SecurityGroup", "TagKey") else inputs(shape.member)
        return st.lists(inner, min_size=bounds.get("min", 0), max_size=3)
    if kind == "string":
        if "enum" in bounds:
            return st.sampled_from(bounds["enum"])
        return st.text("abc", min_size=1, max_size=4)
    if kind in ("integer", "long"):
        return st.integers(max(0, bounds.get("min", 0)), min(bounds.get("max", 5), 2**32 - 1))
    return {"double": st.sampled_from([1.0, 64.0, 5000.0]), "boolean": st.booleans()}[kind]


def requests() -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
    def of(operation: str) -> st.SearchStrategy[tuple[str, dict[str, Any]]]:
        shape = MODEL.operation_model(operation).input_shape
        return st.tuples(st.just(operation), inputs(shape) if shape else st.just({}))

    return st.sampled_from(sorted(MODEL.operation_names)).flatmap(of)


def replaced(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: replaced(inner, names) for key, inner in value.items()}
    if isinstance(value, list):
        return [replaced(inner, names) for inner in value]
    return names.get(value, value) if isinstance(value, str) else value


async def outcome(house: House, operation: str, given: dict[str, Any]) -> dict[str, Any] | AWSError:
    method = getattr(house.efs, xform_name(operation))
    try:
        return dict(await method(call(), given))
    except AWSError as error:
        return error


def check(operation: str, came: dict[str, Any] | AWSError) -> None:
    """Raises AssertionError, or botocore's NoShapeFoundError for a code that EFS does not have."""
    shape = MODEL.operation_model(operation).output_shape
    if isinstance(came, AWSError):
        assert set(came.members) <= set(MODEL.shape_for(came.code).members), came
        assert came.code != "InternalServerError"
    elif shape is None:
        assert came == {}
    else:
        report = ParamValidator().validate(came, shape)
        assert not report.has_errors(), report.generate_report()
        assert set(came) <= set(shape.members)


async def names_in(house: House) -> dict[str, str]:
    fs, other = await house.make(), await house.make(ThroughputMode="elastic", Encrypted=True)
    point = await house.make_access_point(fs)
    return {
        "FS": fs,
        "OTHER": other,
        "FS-ARN": f"arn:aws:elasticfilesystem:{REGION}:{ACCOUNT}:file-system/{fs}",
        "TARGET": (await house.make_target(fs))["MountTargetId"],
        "POINT": point["AccessPointId"],
        "POINT-ARN": point["AccessPointArn"],
    }


async def one_by_one(asked: list[tuple[str, dict[str, Any]]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        async with opened(Path(directory)) as house:
            names = await names_in(house)
            for operation, given in asked:
                check(operation, await outcome(house, operation, replaced(given, names)))
            await house.gone()
            await check_house(house)


async def all_at_once(asked: list[tuple[str, dict[str, Any]]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        async with opened(Path(directory)) as house:
            names = await names_in(house)
            came = await asyncio.gather(
                *(outcome(house, operation, replaced(given, names)) for operation, given in asked)
            )
            for (operation, _), answer in zip(asked, came, strict=True):
                check(operation, answer)
            await house.gone()
            await check_house(house)


async def check_house(house: House) -> None:
    """Records, interfaces, volumes and directories agree."""
    efs = house.efs
    targets = list(efs._mount_targets)
    assert {target.interface for target in targets} == set(house.network.interfaces)
    assert len({(target.file_system, target.zone) for target in targets}) == len(targets)
    volumes = {each.id for each in efs._file_systems}
    assert volumes == set(house.fsd.volumes)
    assert volumes >= {child.file_system for child in [*targets, *efs._access_points]}
    tokens = [(each.region, each.creation_token) for each in efs._file_systems]
    assert len(set(tokens)) == len(tokens)
    points = [each.client_token for each in efs._access_points]
    assert len(set(points)) == len(points)
    replicating = {each.destination_key for each in efs._replications}
    assert {each.key for each in efs._file_systems if each.protection == "REPLICATING"} == replicating
    under = {name for name in os.listdir(house.settings.data_dir / "file-systems") if name != ".deleted"}
    assert under == volumes


ANY_INPUT = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))


@ANY_INPUT
@given(st.lists(requests(), min_size=5, max_size=25))
def test_any_input_is_answered_or_refused_as_the_model_says(asked: list[tuple[str, dict[str, Any]]]) -> None:
    asyncio.run(one_by_one(asked))


@ANY_INPUT
@given(st.lists(requests(), min_size=5, max_size=40))
def test_requests_at_once_leave_everything_in_agreement(asked: list[tuple[str, dict[str, Any]]]) -> None:
    asyncio.run(all_at_once(asked))

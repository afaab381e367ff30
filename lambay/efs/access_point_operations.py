"""Access points: an identity and a root directory for those who mount through them."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from lambay.aws import AWSError, Call, resource_id
from lambay.efs.errors import bad_request
from lambay.efs.paging import MOST, page_of
from lambay.efs.records import AccessPoint, CreationInfo, PosixUser
from lambay.efs.resources import Resources, tag_list, tag_map, with_name

_DEPTH = 4


class AccessPointOperations(Resources):
    async def create_access_point(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        file_system = self._available_file_system(call, input["FileSystemId"])
        token = input["ClientToken"]
        self._check_client_token(call, token)
        under = self._access_points_under(file_system)
        if len(under) >= self._limits.access_points:
            raise AWSError(
                "AccessPointLimitExceeded",
                f"File system '{file_system.id}' has {len(under)} access points, which is the limit.",
            )
        root, creation = _root(input.get("RootDirectory", {}))
        access_point = AccessPoint(
            id=resource_id("fsap"),
            account=call.account,
            region=call.region,
            file_system=file_system.id,
            client_token=token,
            state="available",
            root=root,
            creation=creation,
            posix=_posix(input.get("PosixUser")),
            tags=tag_map(input.get("Tags", ())),
        )
        await self._save(access_point)
        # The record is all there is to make; EFS tells of the state in which the request found it.
        return _describe(replace(access_point, state="creating"))

    async def describe_access_points(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        if "AccessPointId" in input and "FileSystemId" in input:
            raise bad_request("AccessPointId and FileSystemId are mutually exclusive.")
        if "AccessPointId" in input:
            found = [self._access_point(call, input["AccessPointId"])]
        elif "FileSystemId" in input:
            found = self._access_points_under(self._file_system(call, input["FileSystemId"]))
        else:
            found = self._access_points.under(f"{call.account}/{call.region}/")
        page, following = page_of(found, _identity, input.get("NextToken"), input.get("MaxResults", MOST))
        output: dict[str, Any] = {"AccessPoints": [_describe(access_point) for access_point in page]}
        if following is not None:
            output["NextToken"] = following
        return output

    async def delete_access_point(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        access_point = self._access_point(call, input["AccessPointId"])
        await self._commit(self._access_points.remove(access_point.key))
        return {}

    def _check_client_token(self, call: Call, token: str) -> None:
        key = self._client_tokens.get((call.account, call.region, token))
        if key is not None:
            existing = self._access_points[key]
            raise AWSError(
                "AccessPointAlreadyExists",
                f"Access point '{existing.id}' already exists with client token '{token}'",
                AccessPointId=existing.id,
            )


def _posix(given: dict[str, Any] | None) -> PosixUser | None:
    if given is None:
        return None
    return PosixUser(given["Uid"], given["Gid"], tuple(given.get("SecondaryGids", ())))


def _root(given: dict[str, Any]) -> tuple[str, CreationInfo | None]:
    """Path and creation info. Raises BadRequest for a path that the model's pattern cannot judge."""
    path: str = given.get("Path", "/")
    names = path.removeprefix("/").removesuffix("/").split("/") if path != "/" else []
    if not path.startswith("/") or any(name in ("", ".", "..") for name in names):
        raise bad_request(f"RootDirectory.Path: '{path}' is not an absolute path of plain names.")
    if len(names) > _DEPTH:
        raise bad_request(f"RootDirectory.Path: '{path}' is deeper than {_DEPTH} subdirectories.")
    info = given.get("CreationInfo")
    if info is None:
        return path, None
    return path, CreationInfo(info["OwnerUid"], info["OwnerGid"], info["Permissions"])


def _identity(access_point: AccessPoint) -> str:
    return access_point.id


def _describe(access_point: AccessPoint) -> dict[str, Any]:
    root: dict[str, Any] = {"Path": access_point.root}
    if access_point.creation is not None:
        root["CreationInfo"] = {
            "OwnerUid": access_point.creation.uid,
            "OwnerGid": access_point.creation.gid,
            "Permissions": access_point.creation.permissions,
        }
    described: dict[str, Any] = {
        "ClientToken": access_point.client_token,
        "Tags": tag_list(access_point.tags),
        "AccessPointId": access_point.id,
        "AccessPointArn": access_point.arn,
        "FileSystemId": access_point.file_system,
        "RootDirectory": root,
        "OwnerId": access_point.account,
        "LifeCycleState": access_point.state,
    }
    if access_point.posix is not None:
        described["PosixUser"] = {"Uid": access_point.posix.uid, "Gid": access_point.posix.gid}
        if access_point.posix.gids:
            described["PosixUser"]["SecondaryGids"] = list(access_point.posix.gids)
    return with_name(described, access_point.tags)

"""Random histories of operations, stops and starts, checked against a model of plain sets."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from lambay.aws import AWSError
from tests.efs.surroundings import House, TinyFileServer, TinyNetwork, call, opened

TOKENS = st.sampled_from(["a", "b", "c"])
ZONES = {1: "eu-west-1a", 2: "eu-west-1b", 3: "eu-west-1a"}


class Histories(RuleBasedStateMachine):
    file_systems = Bundle("file_systems")

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.directory = Path(tempfile.mkdtemp(prefix="lambay-model-"))
        self.network = TinyNetwork()
        self.tokens: dict[str, str] = {}
        self.targets: dict[str, dict[str, str]] = {}
        self.access_points: dict[str, str] = {}
        self.access_point_tokens: dict[str, str] = {}
        self.tags: dict[str, dict[str, str]] = {}
        self._open()

    def _open(self) -> None:
        self.fsd = TinyFileServer()
        self.network.interfaces.clear()
        self.opening: AbstractAsyncContextManager[House] = opened(
            self.directory, fsd=self.fsd, network=self.network
        )
        self.house = self.run(self.opening.__aenter__())

    def run(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    def refused(self, work: Any) -> str | None:
        """The code of the error that `work` raises, if it does."""
        try:
            self.run(work)
        except AWSError as error:
            return error.code
        return None

    @rule(target=file_systems, token=TOKENS)
    def create(self, token: str) -> Any:
        if token in self.tokens.values():
            assert self.refused(self.house.make(CreationToken=token)) == "FileSystemAlreadyExists"
            return multiple()
        made: str = self.run(self.house.make(CreationToken=token))
        self.tokens[made], self.targets[made], self.tags[made] = token, {}, {}
        return made

    @rule(file_system=file_systems, number=st.sampled_from(sorted(ZONES)))
    def create_target(self, file_system: str, number: int) -> None:
        if file_system not in self.tokens:
            assert self.refused(self.house.make_target(file_system, number)) == "FileSystemNotFound"
        elif ZONES[number] in self.targets[file_system]:
            assert self.refused(self.house.make_target(file_system, number)) == "MountTargetConflict"
        else:
            made = self.run(self.house.make_target(file_system, number))
            self.targets[file_system][ZONES[number]] = made["MountTargetId"]

    @rule(file_system=file_systems, zone=st.sampled_from(sorted(set(ZONES.values()))))
    def delete_target(self, file_system: str, zone: str) -> None:
        identifier = self.targets.get(file_system, {}).pop(zone, None)
        deletion = self.house.efs.delete_mount_target(
            call(), {"MountTargetId": identifier or "fsmt-00000000"}
        )
        assert self.refused(deletion) == (None if identifier else "MountTargetNotFound")

    @rule(file_system=file_systems, token=TOKENS)
    def create_access_point(self, file_system: str, token: str) -> None:
        creation = self.house.make_access_point(file_system, ClientToken=token)
        if file_system not in self.tokens:
            assert self.refused(creation) == "FileSystemNotFound"
        elif token in self.access_point_tokens.values():
            assert self.refused(creation) == "AccessPointAlreadyExists"
        else:
            made = self.run(creation)["AccessPointId"]
            self.access_points[made], self.access_point_tokens[made] = file_system, token

    @rule(token=TOKENS)
    def delete_access_point(self, token: str) -> None:
        by_token = {known: identifier for identifier, known in self.access_point_tokens.items()}
        identifier = by_token.get(token, "fsap-00000000")
        deletion = self.house.efs.delete_access_point(call(), {"AccessPointId": identifier})
        known = self.access_points.pop(identifier, None)
        self.access_point_tokens.pop(identifier, None)
        assert self.refused(deletion) == (None if known else "AccessPointNotFound")

    @rule(file_system=file_systems, key=TOKENS, value=st.sampled_from(["1", "2"]))
    def tag(self, file_system: str, key: str, value: str) -> None:
        given = {"ResourceId": file_system, "Tags": [{"Key": key, "Value": value}]}
        known = file_system in self.tokens
        assert self.refused(self.house.efs.tag_resource(call(), given)) == (
            None if known else "FileSystemNotFound"
        )
        if known:
            self.tags[file_system][key] = value

    @rule(file_system=consumes(file_systems))
    def delete(self, file_system: str) -> None:
        deletion = self.house.efs.delete_file_system(call(), {"FileSystemId": file_system})
        if file_system not in self.tokens:
            assert self.refused(deletion) == "FileSystemNotFound"
        elif self.targets[file_system]:
            assert self.refused(deletion) == "FileSystemInUse"
            for zone in list(self.targets[file_system]):
                self.delete_target(file_system, zone)
            self.delete(file_system)
        else:
            assert self.refused(deletion) is None
            del self.tokens[file_system], self.targets[file_system], self.tags[file_system]
            gone = [each for each, parent in self.access_points.items() if parent == file_system]
            for identifier in gone:
                del self.access_points[identifier], self.access_point_tokens[identifier]

    @rule()
    def restart(self) -> None:
        self.run(self.opening.__aexit__(None, None, None))
        self._open()

    @invariant()
    def the_api_tells_what_the_model_knows(self) -> None:
        described = self.run(self.house.efs.describe_file_systems(call(), {}))["FileSystems"]
        standing = {each["FileSystemId"]: each for each in described if each["LifeCycleState"] != "deleting"}
        assert {name: each["CreationToken"] for name, each in standing.items()} == self.tokens
        for name, each in standing.items():
            assert each["NumberOfMountTargets"] == len(self.targets[name])
            assert {tag["Key"]: tag["Value"] for tag in each["Tags"]} == self.tags[name]
            found = self.run(self.house.efs.describe_mount_targets(call(), {"FileSystemId": name}))
            zones = {each["AvailabilityZoneName"]: each["MountTargetId"] for each in found["MountTargets"]}
            assert zones == self.targets[name]
        found = self.run(self.house.efs.describe_access_points(call(), {}))["AccessPoints"]
        assert {each["AccessPointId"]: each["FileSystemId"] for each in found} == self.access_points

    @invariant()
    def what_is_beneath_is_the_same(self) -> None:
        self.run(self.house.gone())
        directories = {path.name for path in (self.directory / "file-systems").iterdir()} - {".deleted"}
        assert directories == set(self.tokens) == set(self.fsd.volumes)
        assert list((self.directory / "file-systems" / ".deleted").iterdir()) == []
        expected = {identifier for targets in self.targets.values() for identifier in targets.values()}
        assert {each.description.split("(")[1][:-1] for each in self.network.interfaces.values()} == expected

    def teardown(self) -> None:
        self.run(self.opening.__aexit__(None, None, None))
        self.loop.close()
        shutil.rmtree(self.directory)


TestHistories = Histories.TestCase
TestHistories.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)

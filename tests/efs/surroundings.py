"""The rooms next door, small enough to hold in one's head, and a house of file systems among them."""

from __future__ import annotations

import asyncio
import ipaddress
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lambay.aws import AWSError, Call, Principal
from lambay.clock import Clock
from lambay.efs import FileSystems, Limits
from lambay.fsd import FsdError, Ledger, Mount, Mounted, Report, Stats, Usage
from lambay.fsd import Limits as VolumeLimits
from lambay.settings import Settings
from lambay.store import Store

ACCOUNT = "111122223333"
REGION = "eu-west-1"
KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1234abcd-12ab-34cd-56ef-1234567890ab"
VPC_GROUP = "sg-00000000"


async def other_turns() -> None:
    """Let whoever else runs go on, as a call over a socket would."""
    for _ in range(3):
        await asyncio.sleep(0)


@dataclass(frozen=True)
class Subnet:
    id: str
    vpc: str
    zone: str
    zone_id: str
    cidr: str


@dataclass
class Interface:
    id: str
    address: str
    subnet: str
    groups: tuple[str, ...]
    description: str


def subnet(number: int, zone: str, *, vpc: str = "vpc-00000001", cidr: str | None = None) -> Subnet:
    zone_id = f"euw1-az{'abcdef'.index(zone[-1]) + 1}"
    return Subnet(f"subnet-{number:08x}", vpc, zone, zone_id, cidr or f"10.0.{number}.0/24")


@dataclass
class TinyNetwork:
    """Two zones with a subnet each, another subnet of the first zone, one of another VPC, and a full one."""

    subnets: dict[str, Subnet] = field(
        default_factory=lambda: {
            each.id: each
            for each in (
                subnet(1, "eu-west-1a"),
                subnet(2, "eu-west-1b"),
                subnet(3, "eu-west-1a"),
                subnet(4, "eu-west-1b", vpc="vpc-00000002"),
                subnet(5, "eu-west-1c", cidr="10.0.5.0/30"),
            )
        }
    )
    groups: dict[str, str] = field(
        default_factory=lambda: {
            VPC_GROUP: "vpc-00000001",
            "sg-99999999": "vpc-00000002",
            **{f"sg-{number:08x}": "vpc-00000001" for number in range(1, 8)},
        }
    )
    interfaces: dict[str, Interface] = field(default_factory=dict)
    interface_limit: int = 100

    async def subnet(self, subnet: str, *, account: str, region: str) -> Subnet:
        await other_turns()
        if subnet not in self.subnets:
            raise AWSError("InvalidSubnetID.NotFound", f"The subnet ID '{subnet}' does not exist")
        return self.subnets[subnet]

    async def default_security_group(self, vpc: str, *, account: str, region: str) -> str:
        await other_turns()
        return next(group for group, of in self.groups.items() if of == vpc)

    async def check_security_groups(
        self, groups: Sequence[str], vpc: str, *, account: str, region: str
    ) -> None:
        await other_turns()
        for group in groups:
            if self.groups.get(group) != vpc:
                raise AWSError("InvalidGroup.NotFound", f"The security group '{group}' does not exist")

    async def create_interface(
        self,
        subnet: str,
        security_groups: Sequence[str],
        *,
        account: str,
        region: str,
        description: str,
        address: str | None = None,
    ) -> Interface:
        await other_turns()
        if len(self.interfaces) >= self.interface_limit:
            raise AWSError("NetworkInterfaceLimitExceeded", "You have reached the limit of interfaces")
        network = ipaddress.ip_network(self.subnets[subnet].cidr)
        used = {interface.address for interface in self.interfaces.values()}
        if address is None:
            free = (str(each) for each in list(network)[4:-1] if str(each) not in used)
            address = next(free, None)
            if address is None:
                raise AWSError("InsufficientFreeAddressesInSubnet", f"'{subnet}' has no free addresses")
        elif ipaddress.ip_address(address) not in network:
            raise AWSError("InvalidParameterValue", "Address does not fall within the subnet's address range")
        elif address in used:
            raise AWSError("InvalidIPAddress.InUse", f"Address {address} is in use.")
        interface = Interface(
            f"eni-{len(self.interfaces):017x}", address, subnet, tuple(security_groups), description
        )
        self.interfaces[interface.id] = interface
        return interface

    async def ensure_interface(
        self,
        interface: str,
        subnet: str,
        security_groups: Sequence[str],
        address: str,
        *,
        account: str,
        region: str,
        description: str,
    ) -> None:
        await other_turns()
        if subnet not in self.subnets:
            raise AWSError("InvalidSubnetID.NotFound", f"The subnet ID '{subnet}' does not exist")
        self.interfaces[interface] = Interface(
            interface, address, subnet, tuple(security_groups), description
        )

    async def set_interface_groups(
        self, interface: str, security_groups: Sequence[str], *, account: str, region: str
    ) -> None:
        await other_turns()
        self.interfaces[interface].groups = tuple(security_groups)

    async def delete_interface(self, interface: str, *, account: str, region: str) -> None:
        await other_turns()
        if self.interfaces.pop(interface, None) is None:
            raise AWSError("InvalidNetworkInterfaceID.NotFound", f"'{interface}' does not exist")


class TinyNeighbours:
    """A KMS with one good key, one disabled and one asymmetric, and an EC2 with three zones."""

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
        await other_turns()
        if (service, operation) == ("ec2", "DescribeAvailabilityZones"):
            (name,) = input["ZoneNames"]
            if name[:-1] != region or name[-1] not in "abc":
                raise AWSError("InvalidParameterValue", f"Invalid availability zone: [{name}]")
            zone_id = f"euw1-az{'abc'.index(name[-1]) + 1}"
            return {"AvailabilityZones": [{"ZoneName": name, "ZoneId": zone_id}]}
        assert (service, operation) == ("kms", "DescribeKey")
        keys = {
            "alias/aws/elasticfilesystem": {"Arn": KEY},
            KEY: {"Arn": KEY},
            "alias/disabled": {"Arn": "arn:disabled", "Enabled": False, "KeyState": "Disabled"},
            "alias/asymmetric": {"Arn": "arn:asymmetric", "KeySpec": "RSA_2048"},
        }
        if input["KeyId"] not in keys:
            raise AWSError("NotFoundException", f"Invalid keyId '{input['KeyId']}'")
        return {"KeyMetadata": {"Enabled": True, "KeyState": "Enabled", **keys[input["KeyId"]]}}


@dataclass
class TinyFileServer:
    """Keeps volumes and mounts as fsd would, without mounting anything."""

    volumes: dict[str, Path] = field(default_factory=dict)
    mounts: dict[str, Mount] = field(default_factory=dict)
    broken: bool = False

    async def open_volume(self, volume: str, backing: Path) -> None:
        await other_turns()
        self._check()
        if not os.path.isdir(backing):
            raise FsdError("System", f"{backing}: no such directory", 2)
        self.volumes[volume] = backing

    async def close_volume(self, volume: str) -> None:
        await other_turns()
        self._check()
        if any(mount.volume == volume for mount in self.mounts.values()):
            raise FsdError("VolumeBusy", f"{volume} has mounts")
        self.volumes.pop(volume, None)

    async def usage(self, volume: str) -> Usage:
        await other_turns()
        self._check()
        sizes = [4096]
        for directory, directories, files in os.walk(self.volumes[volume]):
            sizes += [4096] * len(directories)
            sizes += [-(-os.path.getsize(os.path.join(directory, name)) // 4096) * 4096 for name in files]
        return Usage(sum(sizes), len(sizes) - 1)

    async def mount(self, mount: Mount) -> Mounted:
        await other_turns()
        self._check()
        if mount.volume not in self.volumes:
            raise FsdError("NoSuchVolume", f"{mount.volume} is not open")
        root = self.volumes[mount.volume] / mount.root.lstrip("/")
        if not root.is_dir() and mount.create is None:
            raise FsdError("RootDirectoryMissing", f"{mount.root} does not exist")
        root.mkdir(parents=True, exist_ok=True)
        self.mounts[mount.mount] = mount
        return Mounted(mount.mount, "0:99", 99)

    async def unmount(self, mount: str) -> None:
        await other_turns()
        self.mounts.pop(mount, None)

    async def limit(self, volume: str, limits: VolumeLimits) -> Report:
        self._check()
        return Report(0, None, 0.0, limits.ledger or Ledger(0, 0, 0))

    async def set_clock(self, nanoseconds: int) -> None:
        pass

    async def stats(self) -> Stats:
        return Stats()

    def mounts_of(self, volume: str) -> list[str]:
        return [name for name, mount in self.mounts.items() if mount.volume == volume]

    def _check(self) -> None:
        if self.broken:
            raise FsdError("ServerDied", "the file server ended")


@dataclass
class House:
    """File systems, open, with what is around them."""

    efs: FileSystems
    fsd: TinyFileServer
    network: TinyNetwork
    clock: Clock
    store: Store
    settings: Settings

    async def make(self, **given: Any) -> str:
        """A new file system's id."""
        given.setdefault("CreationToken", os.urandom(8).hex())
        return str((await self.efs.create_file_system(call(), given))["FileSystemId"])

    async def make_target(self, file_system: str, subnet: int = 1, **given: Any) -> dict[str, Any]:
        given |= {"FileSystemId": file_system, "SubnetId": f"subnet-{subnet:08x}"}
        return await self.efs.create_mount_target(call(), given)

    async def make_access_point(self, file_system: str, **given: Any) -> dict[str, Any]:
        given.setdefault("ClientToken", os.urandom(8).hex())
        return await self.efs.create_access_point(call(), {"FileSystemId": file_system, **given})

    async def describe(self, file_system: str) -> dict[str, Any]:
        output = await self.efs.describe_file_systems(call(), {"FileSystemId": file_system})
        (described,) = output["FileSystems"]
        return dict(described)

    def backing(self, file_system: str) -> Path:
        return self.settings.data_dir / "file-systems" / file_system

    async def gone(self) -> None:
        """Until everything that is being removed is removed."""
        while self.efs._removals:
            await asyncio.wait(self.efs._removals)
            # A task leaves the set in the turn after its end.
            await asyncio.sleep(0)


def call(account: str = ACCOUNT, region: str = REGION, user: str | None = None) -> Call:
    arn = f"arn:aws:iam::{account}:root" if user is None else f"arn:aws:iam::{account}:user/{user}"
    kind = "root" if user is None else "user"
    return Call("request-1", account, region, Principal(kind, account, arn, account))


@asynccontextmanager
async def opened(
    directory: Path,
    *,
    fsd: TinyFileServer | None = None,
    network: TinyNetwork | None = None,
    limits: Limits | None = None,
) -> AsyncIterator[House]:
    """A house on `directory`; open it again to see what a restart leaves."""
    settings = Settings(data_dir=directory)
    store = Store(directory / "lambay.db")
    fsd, network, clock = fsd or TinyFileServer(), network or TinyNetwork(), Clock()
    efs = FileSystems(store, fsd, network, TinyNeighbours(), settings, clock, limits=limits)
    await efs.start()
    await efs._resumed()
    try:
        yield House(efs, fsd, network, clock, store, settings)
    finally:
        await efs.stop()
        store.close()

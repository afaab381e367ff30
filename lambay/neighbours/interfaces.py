"""Derived network interfaces: those of mount targets and functions, which their owners create again after a
start.

They live in moto's EC2, so `DescribeNetworkInterfaces` and `DescribeSubnets` count them, but neither in the
journal nor in a snapshot. Their identifiers and addresses are their owners' to remember. As in AWS a client
may not delete or change such an interface, nor delete the subnet or security group it uses. See the Amazon
EC2 User Guide, "Requester-managed network interfaces".
"""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, TypeVar

from lambay.aws import AWSError
from lambay.neighbours import moment
from lambay.neighbours.adapt import adapter
from lambay.neighbours.engine import Engine
from lambay.neighbours.moment import Moment

R = TypeVar("R")

# The first four addresses of a subnet and its last are AWS's own.
_RESERVED_AT_START = 4


@dataclass(frozen=True, slots=True)
class DerivedInterface:
    """`kind` is EC2's InterfaceType (`interface`, `lambda`); `requester` the service it belongs to.

    An empty `address` asks for a free one of the subnet.
    """

    id: str
    subnet: str
    groups: tuple[str, ...]
    address: str = ""
    description: str = ""
    kind: str = "interface"
    requester: str = "amazon-aws"


class Interfaces:
    """The derived interfaces of all accounts and Regions. `run` runs work on moto's thread.

    Errors are AWSErrors with EC2's codes.
    """

    def __init__(self, run: Callable[[Callable[[Engine], Any]], Awaitable[Any]]) -> None:
        self._run = run

    async def put(self, given: DerivedInterface, *, account: str, region: str) -> DerivedInterface:
        """Make `given` exist exactly so, replacing a derived interface of the same id; with its address.

        Raises InvalidSubnetID.NotFound, InvalidGroup.NotFound, InvalidIPAddress.InUse, InvalidParameterValue
        (an address outside of the subnet or one of AWS's own) and InsufficientFreeAddressesInSubnet.
        """
        put: DerivedInterface = await self._in(account, region, lambda ec2: _put(ec2, given))
        return put

    async def regroup(self, interface: str, groups: Sequence[str], *, account: str, region: str) -> None:
        """Give `interface` these security groups.

        Raises InvalidNetworkInterfaceID.NotFound, InvalidGroup.NotFound.
        """

        def work(ec2: Any) -> None:
            _derived(ec2, interface)._group_set = _groups(ec2, groups)

        await self._in(account, region, work)

    async def remove(self, interface: str, *, account: str, region: str) -> None:
        """Remove `interface`; one that is not there is removed already."""
        await self._in(account, region, lambda ec2: _remove(ec2, interface))

    async def _in(self, account: str, region: str, work: Callable[[Any], R]) -> R:
        def work_there(engine: Engine) -> R:
            from moto.core.exceptions import ServiceException
            from moto.ec2.models import ec2_backends

            try:
                return work(ec2_backends[account][region])
            except ServiceException as error:
                raise AWSError(error.code, error.message, status=400) from None

        result: R = await self._run(work_there)
        return result


def _put(ec2: Any, given: DerivedInterface) -> DerivedInterface:
    subnet = ec2.get_subnet(given.subnet)
    groups = _groups(ec2, given.groups)
    before = ec2.enis.get(given.id)
    if before is not None and not _is_derived(before):
        raise AWSError(
            "InvalidNetworkInterface.InUse",
            f"The network interface '{given.id}' belongs to the account.",
            status=400,
        )
    taken = _taken(ec2, subnet) - _addresses_of(before)
    address = given.address or _lowest_free(subnet, taken)
    _check_address(subnet, address, taken)
    put = replace(given, address=address)
    # Whatever moto draws for it (its MAC address) follows from the id, so that it is the same after a
    # restart.
    with moment.within(Moment(_now(), hashlib.sha256(given.id.encode()).digest())):
        made = _interface_class()(ec2, subnet, put, groups)
    ec2.enis[put.id] = made
    return put


def _now() -> float:
    from moto.core.utils import unix_time

    return unix_time()


def _remove(ec2: Any, interface: str) -> None:
    if interface in ec2.enis:
        _derived(ec2, interface)
        del ec2.enis[interface]
        ec2.tags.pop(interface, None)


def _derived(ec2: Any, interface: str) -> Any:
    found = ec2.get_network_interface(interface)
    if not _is_derived(found):
        raise AWSError(
            "InvalidNetworkInterfaceID.NotFound", f"'{interface}' is not a derived interface.", status=400
        )
    return found


def _groups(ec2: Any, groups: Sequence[str]) -> list[Any]:
    found = []
    for group in groups:
        security_group = ec2.get_security_group_from_id(group)
        if security_group is None:
            raise AWSError(
                "InvalidGroup.NotFound", f"The security group '{group}' does not exist", status=400
            )
        found.append(security_group)
    return found


def _check_address(subnet: Any, address: str, taken: set[str]) -> None:
    network = subnet.cidr
    try:
        wanted = ipaddress.ip_address(address)
    except ValueError:
        raise AWSError(
            "InvalidParameterValue",
            f"Value ({address}) for parameter address is not an IP address.",
            status=400,
        ) from None
    if wanted not in network:
        raise AWSError(
            "InvalidParameterValue",
            f"Address {address} does not fall within the subnet's address range",
            status=400,
        )
    offset = int(wanted) - int(network.network_address)
    if offset < _RESERVED_AT_START or offset == network.num_addresses - 1:
        raise AWSError(
            "InvalidParameterValue", f"Address {address} is in subnet's reserved address range", status=400
        )
    if address in taken:
        raise AWSError("InvalidIPAddress.InUse", f"Address {address} is in use.", status=400)


def _addresses_of(interface: Any) -> set[str]:
    if interface is None:
        return set()
    return {entry["PrivateIpAddress"] for entry in interface.private_ip_addresses}


def _taken(ec2: Any, subnet: Any) -> set[str]:
    taken = set(subnet._subnet_ips)
    for interface in ec2.enis.values():
        if interface.subnet.id == subnet.id:
            taken |= _addresses_of(interface)
    return taken


def _lowest_free(subnet: Any, taken: set[str]) -> str:
    network = subnet.cidr
    for offset in range(_RESERVED_AT_START, network.num_addresses - 1):
        candidate = network.network_address + offset
        if str(candidate) not in taken and candidate not in subnet._reserved_ips:
            return str(candidate)
    raise AWSError(
        "InsufficientFreeAddressesInSubnet",
        f"There are not enough free addresses in subnet '{subnet.id}'.",
        status=400,
    )


def _is_derived(interface: Any) -> bool:
    return bool(getattr(interface, "derived", False))


@dataclass(frozen=True, slots=True)
class _Attachment:
    """As EC2 shows the attachment of an interface to a service of AWS's own."""

    attachment_id: str
    attach_time: Any
    delete_on_termination: bool = False
    device_index: int = 1
    network_card_index: int = 0
    instance_id: None = None
    instance_owner_id: str = "amazon-aws"
    status: str = "attached"


@cache
def _interface_class() -> Any:
    """moto's interface with an owner that is no instance; made once moto is there."""
    from moto.core.utils import utcnow
    from moto.ec2.models.elastic_network_interfaces import NetworkInterface

    class Derived(NetworkInterface):
        derived = True

        def __init__(self, ec2: Any, subnet: Any, given: DerivedInterface, groups: list[Any]) -> None:
            super().__init__(ec2, subnet, given.address, description=given.description)
            ec2.tags.pop(self.id, None)
            self.id = given.id
            self._group_set = groups
            self.requester_managed = True
            self.requester_id = given.requester
            self.interface_type = given.kind
            self.status = "in-use"
            self._attachment = _Attachment(f"ela-attach-{given.id.removeprefix('eni-')}", utcnow())

        @property
        def attachment(self) -> Any:
            return self._attachment

    return Derived


@contextmanager
def set_aside() -> Iterator[None]:
    """Within, moto's state is without the derived interfaces: what a snapshot keeps."""
    from moto.ec2.models import ec2_backends

    aside: list[tuple[Any, dict[str, Any]]] = []
    backends: Any = ec2_backends
    for _account, _region, ec2 in backends.iter_backends():
        derived = {key: interface for key, interface in ec2.enis.items() if _is_derived(interface)}
        aside.append((ec2, dict(ec2.enis)))
        for key in derived:
            del ec2.enis[key]
    try:
        yield
    finally:
        for ec2, interfaces in aside:
            ec2.enis.clear()
            ec2.enis.update(interfaces)


def _refusal(code: str, message: str) -> Exception:
    from moto.ec2.exceptions import EC2ClientError

    return EC2ClientError(code, message)


@adapter("moto.ec2.models.subnets")
def _addresses_that_replay(module: Any) -> None:
    """Instances take the lowest address that no interface has. Derived interfaces are not there during a
    replay,

    so the choice goes over the tape.
    """

    def get_available_subnet_ip(self: Any, instance: Any) -> str:
        address = _chosen(self.ec2_backend, self)
        self._subnet_ips[address] = instance
        self._unused_ips.discard(address)
        return address

    delete = module.SubnetBackend.delete_subnet

    def delete_subnet(self: Any, subnet_id: str) -> Any:
        if any(
            _is_derived(interface) and interface.subnet.id == subnet_id for interface in self.enis.values()
        ):
            raise _refusal(
                "DependencyViolation", f"The subnet '{subnet_id}' has dependencies and cannot be deleted."
            )
        return delete(self, subnet_id)

    module.Subnet.get_available_subnet_ip = get_available_subnet_ip
    module.SubnetBackend.delete_subnet = delete_subnet


def _chosen(ec2: Any, subnet: Any) -> str:
    def choose() -> bytes:
        try:
            return _lowest_free(subnet, _taken(ec2, subnet)).encode()
        except AWSError as full:
            raise _refusal(full.code, full.message) from None

    at = moment.current()
    return (choose() if at is None else at.recorded(choose)).decode()


@adapter("moto.ec2.models.elastic_network_interfaces")
def _interfaces_of_the_account(module: Any) -> None:
    backend = module.NetworkInterfaceBackend
    create, delete = backend.create_network_interface, backend.delete_network_interface
    modify = backend.modify_network_interface_attribute

    def create_network_interface(
        self: Any,
        subnet: Any,
        private_ip_address: Any,
        private_ip_addresses: Any = None,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        place = self.get_subnet(subnet) if isinstance(subnet, str) else subnet
        wanted = (
            private_ip_address[0] if isinstance(private_ip_address, list) and private_ip_address else None
        )
        wanted = private_ip_address if isinstance(private_ip_address, str) else wanted
        if place is not None and place.cidr.version == 4:
            if not wanted and not private_ip_addresses:
                private_ip_address = _chosen(self, place)
            elif wanted and any(
                wanted in _addresses_of(interface)
                for interface in self.enis.values()
                if interface.subnet.id == place.id
            ):
                raise _refusal("InvalidIPAddress.InUse", f"Address {wanted} is in use.")
        return create(self, subnet, private_ip_address, private_ip_addresses, *args, **kwargs)

    def delete_network_interface(self: Any, eni_id: str) -> None:
        if _is_derived(self.enis.get(eni_id)):
            raise _refusal(
                "InvalidNetworkInterface.InUse", f"Network interface '{eni_id}' is currently in use."
            )
        delete(self, eni_id)

    def modify_network_interface_attribute(self: Any, eni_id: str, *args: Any, **kwargs: Any) -> None:
        if _is_derived(self.enis.get(eni_id)):
            raise _refusal(
                "OperationNotPermitted", f"The network interface '{eni_id}' is managed by its requester."
            )
        modify(self, eni_id, *args, **kwargs)

    backend.create_network_interface = create_network_interface
    backend.delete_network_interface = delete_network_interface
    backend.modify_network_interface_attribute = modify_network_interface_attribute


@adapter("moto.ec2.models.security_groups")
def _groups_in_use(module: Any) -> None:
    delete = module.SecurityGroupBackend._delete_security_group

    def delete_security_group(self: Any, vpc_id: str | None, group_id: str) -> None:
        for interface in self.enis.values():
            if _is_derived(interface) and any(group.id == group_id for group in interface._group_set):
                raise _refusal("DependencyViolation", f"resource {group_id} has a dependent object")
        delete(self, vpc_id, group_id)

    module.SecurityGroupBackend._delete_security_group = delete_security_group

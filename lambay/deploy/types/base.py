"""`ResourceType`: how one CloudFormation type is made, changed and removed by API calls.

To add a type: subclass it in its service's module, set `name`, write `create` and `delete` (and `update`, without which
any change replaces; and `find`, for what an interruption may leave), and list an instance in `TYPES`. From the
registry's schema come the property checks, the coercion of texts and numbers, where the stack's tags go, which change
replaces and which attributes Fn::GetAtt knows; `extra_…` say what the schema lacks. Properties reach the methods
resolved and coerced.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, TypeVar

from lambay.aws import AWSError
from lambay.deploy import schemas
from lambay.deploy.schemas import Schema

Properties = Mapping[str, Any]
_T = TypeVar("_T")
Call = Callable[[str, str, Mapping[str, Any]], Awaitable[dict[str, Any]]]

_LOOK_AGAIN_SECONDS = 0.5

# Codes by which services say that something is not there (any more).
_ABSENT = re.compile(
    r"NotFound|NoSuch|NonExistent|DoesNotExist|\.NotFound$|ResourceNotFoundException|NotExist"
)


class Signals(Protocol):
    """Answers from outside to a URL of ours."""

    async def open(self, token: str, *, inside: bool = False) -> str:
        """The URL of a new place for answers, for functions where `inside`."""

    async def wait(self, token: str, count: int, seconds: float) -> Mapping[str, Mapping[str, Any]] | None:
        """`count` answers by their unique ids, or fewer with a failed one; None where too few came in time."""

    async def close(self, token: str) -> None: ...


class Nested(Protocol):
    async def adopt(self, stack_arn: str, parent_arn: str) -> None:
        """Make a stack another's child."""


@dataclass(frozen=True, slots=True)
class Made:
    """A physical resource: what Ref gives, and Fn::GetAtt's attributes."""

    id: str
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class At:
    """Where a resource stands and what its type may do: one is made for each operation on a resource.

    `token` is new for each physical resource and kept before it is made, so that names and idempotency tokens that are
    drawn from it are the same after a crash. `aws` calls the API as the stack's principal.
    """

    aws: Call
    account: str
    region: str
    stack: str
    stack_arn: str
    resource: str
    type_name: str
    token: str
    changed: Callable[[], Awaitable[None]]
    signals: Signals
    nested: Nested
    update_policy: Mapping[str, Any] = field(default_factory=dict)
    creation_policy: Mapping[str, Any] = field(default_factory=dict)
    # Set once the operation is to go no further, because something else failed or somebody said so.
    ending: asyncio.Event = field(default_factory=asyncio.Event)

    async def unless_ending(self, wait: Coroutine[Any, Any, _T]) -> _T:
        """What `wait` gives. Raises AWSError where the operation ends before."""
        waiting, ending = asyncio.ensure_future(wait), asyncio.ensure_future(self.ending.wait())
        try:
            await asyncio.wait({waiting, ending}, return_when=asyncio.FIRST_COMPLETED)
            if waiting.done():
                return waiting.result()
            raise AWSError("GeneralServiceException", "Resource creation cancelled")
        finally:
            waiting.cancel()
            ending.cancel()

    async def call(self, service: str, operation: str, /, **input: Any) -> dict[str, Any]:
        """What is None is left out. Raises AWSError."""
        return await self.aws(
            service, operation, {name: item for name, item in input.items() if item is not None}
        )

    def arn(self, service: str, resource: str, region: str | None = None) -> str:
        return f"arn:aws:{service}:{self.region if region is None else region}:{self.account}:{resource}"

    def name(self, most: int = 64, *, lower: bool = False, separator: str = "-") -> str:
        """A physical name as CloudFormation draws it: `STACK-LOGICAL-RANDOM`, at most `most` characters long."""
        drawn = self.token[:12]
        room = most - len(drawn) - 2
        stack, logical = self.stack, self.resource
        if len(stack) + len(logical) > room:
            logical = logical[: max(room // 2, room - len(stack))]
            stack = stack[: room - len(logical)].rstrip("-")
        made = separator.join((stack, logical, drawn))
        return made.lower() if lower else made

    def system_tags(self, given: Any = None) -> list[dict[str, str]]:
        """The tags that are `given` and CloudFormation's own, where those beginning with `aws:` are taken from it."""
        return [
            *as_list(given),
            {"Key": "aws:cloudformation:stack-name", "Value": self.stack},
            {"Key": "aws:cloudformation:stack-id", "Value": self.stack_arn},
            {"Key": "aws:cloudformation:logical-id", "Value": self.resource},
        ]

    async def until(self, look: Callable[[], Awaitable[bool]]) -> None:
        """Until `look` says so. It is asked again when any service has stored something, and every half second for
        the sake of states that are not stored, such as that of provisioned concurrency.
        """
        while True:
            changed = asyncio.ensure_future(self.changed())
            try:
                # The wait is begun before the look, or a change between them would go unseen.
                await asyncio.sleep(0)
                if await look():
                    return
                await asyncio.wait({changed}, timeout=_LOOK_AGAIN_SECONDS)
            finally:
                changed.cancel()


class ResourceType:
    """One resource type; see the module's docstring."""

    name: ClassVar[str] = ""
    # Attributes that the schema does not list, and properties whose change replaces though it does not say so.
    extra_attributes: ClassVar[frozenset[str]] = frozenset()
    extra_create_only: ClassVar[frozenset[str]] = frozenset()
    # Properties that are accepted beside the schema's.
    extra_properties: ClassVar[frozenset[str]] = frozenset()
    # Whether DeletionPolicy Snapshot makes sense.
    snapshots: ClassVar[bool] = False
    # Whether an update of the stack reaches it even where none of its properties changed.
    always_updates: ClassVar[bool] = False

    @property
    def schema(self) -> Schema | None:
        return schemas.schema(self.name)

    def attributes(self) -> frozenset[str] | None:
        """What Fn::GetAtt may ask for; None for anything."""
        schema = self.schema
        return None if schema is None else schema.attributes | self.extra_attributes

    def coerce(self, properties: Properties) -> dict[str, Any]:
        schema = self.schema
        return dict(properties) if schema is None else schema.coerce(properties)

    def faults(self, properties: Properties) -> list[str]:
        """What the schema finds wrong with resolved, coerced properties."""
        schema = self.schema
        if schema is None:
            return []
        return schema.faults(
            {key: item for key, item in properties.items() if key not in self.extra_properties}
        )

    def warnings(self, properties: Properties) -> list[str]:
        """What is accepted though it is not AWS's spelling."""
        return []

    def replaced_by(self, before: Properties, after: Properties) -> frozenset[str]:
        """The properties whose change makes a new physical resource; all of them without `update`."""
        changed = {key for key in {*before, *after} if before.get(key) != after.get(key)}
        if type(self).update is ResourceType.update:
            return frozenset(changed)
        schema = self.schema
        found = schema.replaced_by(before, after) if schema is not None else frozenset()
        return found | (self.extra_create_only & changed)

    async def create(self, at: At, properties: Properties) -> Made:
        raise NotImplementedError

    async def update(self, at: At, id: str, properties: Properties, before: Properties) -> Made:
        """In place; called only where no changed property replaces."""
        raise NotImplementedError

    async def delete(self, at: At, id: str, properties: Properties) -> None:
        """What is not there (any more) is no error; see `gone`."""
        raise NotImplementedError

    async def find(self, at: At, properties: Properties) -> Sequence[str]:
        """The ids of what `create` may have made before it was interrupted; other ids of the resource may be among
        them, since the caller knows those.
        """
        return ()


def changed(before: Properties, after: Properties, *names: str) -> bool:
    return any(before.get(name) != after.get(name) for name in names)


def take(properties: Properties, *names: str) -> dict[str, Any]:
    """Those of `properties` that are given."""
    return {name: properties[name] for name in names if name in properties}


def rest(properties: Properties, *without: str) -> dict[str, Any]:
    return {name: item for name, item in properties.items() if name not in without}


def lowered(value: Any, *, keep: Iterable[str] = ()) -> Any:
    """Keys with a small first letter, as some services have theirs; maps under `keep` have keys of their own."""
    if isinstance(value, dict):
        return {
            key[:1].lower() + key[1:]: (item if key in keep else lowered(item, keep=keep))
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [lowered(item, keep=keep) for item in value]
    return value


async def gone(call: Awaitable[Any], *codes: str) -> bool:
    """Whether `call` found what it removes; `codes` are further errors that mean it was absent."""
    try:
        await call
    except AWSError as error:
        if error.code in codes or _ABSENT.search(error.code):
            return False
        raise
    return True


async def absent(call: Awaitable[Any], *codes: str) -> bool:
    """Whether a look finds nothing."""
    return not await gone(call, *codes)


def tag_changes(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """The tags to set and the keys to remove."""
    return (
        {key: value for key, value in after.items() if before.get(key) != value},
        sorted(set(before) - set(after)),
    )


def tag_map(given: Any) -> dict[str, str]:
    """Tags as a list of Key and Value, or as a map already, to a map."""
    if isinstance(given, dict):
        return dict(given)
    return {tag["Key"]: tag.get("Value", "") for tag in as_list(given)}


def as_list(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]

"""S3 objects as moto holds them: their bytes on disk, never in memory and never in a snapshot."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from typing import Any, ClassVar

from lambay.neighbours import moment
from lambay.neighbours.adapt import adapter
from lambay.neighbours.bodies import EMPTY, Bodies, Content


class Carried:
    """The body of the request at hand together with where it is stored, for `Moment.body`."""

    def __init__(self, content: Content, octets: bytes) -> None:
        self.content = content
        self.octets = octets


class OnDisk:
    """Bytes of an object that nobody has read yet: moto cuts them (a Range), counts them or passes them on."""

    def __init__(self, bodies: Bodies, content: Content, start: int, stop: int) -> None:
        self.content = content
        self._bodies = bodies
        self._start, self._stop = start, stop

    def __len__(self) -> int:
        return self._stop - self._start

    def __getitem__(self, cut: slice) -> OnDisk:
        start, stop, _ = cut.indices(len(self))
        return OnDisk(self._bodies, self.content, self._start + start, self._start + max(start, stop))

    def __bytes__(self) -> bytes:
        return self._bodies.read(self.content, self._start, len(self))


class StoredBody:
    """What moto takes for the temporary file of an object: the same few methods over `Content`."""

    bodies: ClassVar[Bodies]

    def __init__(self, max_size: int = 0) -> None:
        self.content: Content = EMPTY
        self._offset = 0

    def write(self, value: bytes | OnDisk) -> int:
        added = value.content if isinstance(value, OnDisk) else self._stored(value)
        self.content = self.content + added
        return added.size

    @classmethod
    def _stored(cls, value: bytes) -> Content:
        at = moment.current()
        carried = None if at is None else at.body
        if isinstance(carried, Carried) and (carried.octets is value or carried.octets == value):
            return carried.content
        content = cls.bodies.keep(value)
        cls.bodies.settle(content)
        return content

    def seek(self, offset: int, whence: int = 0) -> int:
        self._offset = offset
        return offset

    def truncate(self, size: int | None = None) -> int:
        self.content = EMPTY
        return 0

    def read(self, size: int = -1) -> bytes:
        taken = self.bodies.read(self.content, self._offset, None if size < 0 else size)
        self._offset += len(taken)
        return taken

    def close(self) -> None:
        """Bodies outlive the objects that name them until the next sweep."""

    def __len__(self) -> int:
        return self.content.size

    def __getstate__(self) -> Content:
        return self.content

    def __setstate__(self, content: Content) -> None:
        self.content = content
        self._offset = 0


class _Files:
    """Stands for the `tempfile` module in moto's S3."""

    SpooledTemporaryFile = StoredBody


@adapter("moto.s3.models")
def _objects_on_disk(module: Any) -> None:
    module.tempfile = _Files

    def getstate(key: Any) -> dict[str, Any]:
        return {name: value for name, value in vars(key).items() if name != "lock"}

    def setstate(key: Any, state: dict[str, Any]) -> None:
        vars(key).update(state)
        key.lock = threading.Lock()

    module.FakeKey.__getstate__ = getstate
    module.FakeKey.__setstate__ = setstate
    module.FakeKey.__del__ = lambda key: None


_local = threading.local()


def _unread(method: Callable[..., Any]) -> Callable[..., Any]:
    """`method`, to which the values of objects are `OnDisk`."""

    def unread(*args: Any, **kwargs: Any) -> Any:
        _local.unread = True
        try:
            return method(*args, **kwargs)
        finally:
            _local.unread = False

    return unread


@adapter("moto.s3.models")
def _copied_unread(module: Any) -> None:
    value = module.FakeKey.value

    def read(key: Any) -> Any:
        if not getattr(_local, "unread", False):
            return value.fget(key)
        stored = key._value_buffer
        return OnDisk(stored.bodies, stored.content, 0, stored.content.size)

    module.FakeKey.value = property(read, value.fset)
    module.S3Backend.copy_object = _unread(module.S3Backend.copy_object)


@adapter("moto.s3.models")
def _policies_are_asked_before(module: Any) -> None:
    """What a bucket's policy denies is refused before a request comes here. moto reads the statement without its
    conditions: it would refuse everything where unencrypted requests are denied, as SAM's and CDK's buckets do.
    """
    ask = module.FakeBucket.get_permission

    def get_permission(bucket: Any, action: str, resource: str) -> Any:
        from moto.iam.access_control import PermissionResult

        found = ask(bucket, action, resource)
        return PermissionResult.NEUTRAL if found == PermissionResult.DENIED else found

    module.FakeBucket.get_permission = get_permission


@adapter("moto.s3.responses")
def _sent_unread(module: Any) -> None:
    module.S3Response.get_object = _unread(module.S3Response.get_object)


@adapter("moto.s3.models")
def _completed_uploads_are_their_parts(module: Any) -> None:
    complete = module.FakeMultipart.complete

    def completed(upload: Any, body: Any) -> Any:
        chosen = list(body)
        made = complete(upload, iter(chosen))
        at = moment.current()
        if at is not None:
            contents = [upload.parts[number]._value_buffer.content for number, _ in chosen]
            at.body = Carried(sum(contents, EMPTY), made[0])
        return made

    module.FakeMultipart.complete = completed


@adapter("moto.s3.utils")
def _region_ends_at_the_host(module: Any) -> None:
    # moto's pattern runs on into the path, where a key may well hold "amazonaws.com/".
    module.REGION_URL_REGEX = re.compile(
        module.REGION_URL_REGEX.pattern.replace("(?P<region1>.+)", "(?P<region1>[^/]+)")
        .replace("(?P<region2>.+)", "(?P<region2>[^/]+)")
        .replace(r"|(.+)\.s3", r"|([^/]+)\.s3")
    )

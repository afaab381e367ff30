"""S3 objects as moto holds them: their bytes on disk, never in memory and never in a snapshot."""

from __future__ import annotations

import re
from typing import Any, ClassVar

from lambay.neighbours import moment
from lambay.neighbours.adapt import adapter
from lambay.neighbours.bodies import EMPTY, Bodies, Content


class Carried:
    """The body of the request at hand together with where it is stored, for `Moment.body`."""

    def __init__(self, content: Content, octets: bytes) -> None:
        self.content = content
        self.octets = octets


class StoredBody:
    """What moto takes for the temporary file of an object: the same few methods over `Content`."""

    bodies: ClassVar[Bodies]

    def __init__(self, max_size: int = 0) -> None:
        self.content: Content = EMPTY
        self._offset = 0

    def write(self, value: bytes | StoredBody) -> int:
        added = value.content if isinstance(value, StoredBody) else self._stored(value)
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
    import threading

    module.tempfile = _Files

    def getstate(key: Any) -> dict[str, Any]:
        return {name: value for name, value in vars(key).items() if name != "lock"}

    def setstate(key: Any, state: dict[str, Any]) -> None:
        vars(key).update(state)
        key.lock = threading.Lock()

    module.FakeKey.__getstate__ = getstate
    module.FakeKey.__setstate__ = setstate
    module.FakeKey.__del__ = lambda key: None


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

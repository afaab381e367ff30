"""Which entries of the history a replay can do without.

The history is what another version of moto replays when it cannot read the snapshot. It grows with every
change, so what later changes undid is dropped once a snapshot covers both. Every entry has a seed of its own,
hence one that is left out changes nothing in those that stay.

- SQS messages come and go: their entries are dropped whole, the messages themselves are kept beside the
snapshot. - S3 objects that were overwritten or deleted: their entries go, and with them the bodies. Not in
buckets with versions or object locks, and never what a copy was taken from. - Everything else stays,
compressed.
"""

from __future__ import annotations

import html
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote, urlsplit

from lambay.neighbours.journal import Entry

MESSAGE_OPERATIONS = (
    "SendMessage",
    "SendMessageBatch",
    "ReceiveMessage",
    "DeleteMessage",
    "DeleteMessageBatch",
    "ChangeMessageVisibility",
    "ChangeMessageVisibilityBatch",
    "PurgeQueue",
)

_KEEPS_OLD = ("PutBucketVersioning", "PutObjectLockConfiguration")
_KEY_IN_BODY = re.compile(rb"<Key>(.*?)</Key>", re.DOTALL)

Key = tuple[str, str, str]


@dataclass(slots=True)
class _Objects:
    """The entries that an object owes itself to, by account, bucket and key.

    And those of unfinished uploads.
    """

    live: dict[Key, list[int]] = field(default_factory=lambda: defaultdict(list))
    uploads: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    pinned: set[Key] = field(default_factory=set)
    keeping: set[tuple[str, str]] = field(default_factory=set)


def superseded(entries: Iterable[Entry]) -> Iterator[int]:
    """The `seq` of every entry, of those given in order, that later ones made needless."""
    objects = _Objects()
    for entry in entries:
        if entry.module == "s3":
            yield from _of_object(objects, entry)


def _of_object(objects: _Objects, entry: Entry) -> Iterator[int]:
    url = urlsplit(entry.request.url)
    bucket, _, name = unquote(url.path).lstrip("/").partition("/")
    query = parse_qs(url.query, keep_blank_values=True)
    place = (entry.account, bucket)
    key = (*place, name)
    if entry.operation in _KEEPS_OLD or "x-amz-bucket-object-lock-enabled" in entry.request.headers:
        objects.keeping.add(place)
        for other in [other for other in objects.live if other[:2] == place]:
            del objects.live[other]
    if place in objects.keeping:
        return
    if entry.operation == "DeleteObjects":
        for text in _KEY_IN_BODY.findall(entry.request.body):
            yield from objects.live.pop((*place, _unescaped(text)), ())
    elif not name:
        if not entry.operation:
            objects.keeping.add(place)
    elif entry.operation == "CreateMultipartUpload":
        objects.uploads[entry.subject].append(entry.seq)
    elif "uploadId" in query:
        yield from _of_upload(objects, entry, key, query["uploadId"][0])
    elif entry.operation == "DeleteObject":
        yield from objects.live.pop(key, ())
        if key in objects.pinned:
            objects.live[key] = [entry.seq]
        else:
            yield entry.seq
    elif entry.operation in ("PutObject", "CopyObject"):
        yield from _written(objects, entry, key)
        objects.live[key] = [entry.seq]
    else:
        objects.live[key].append(entry.seq)


def _of_upload(objects: _Objects, entry: Entry, key: Key, upload: str) -> Iterator[int]:
    if entry.operation == "AbortMultipartUpload":
        yield from objects.uploads.pop(upload, ())
        yield entry.seq
    elif entry.operation == "CompleteMultipartUpload":
        yield from _written(objects, entry, key)
        objects.live[key] = [*objects.uploads.pop(upload, ()), entry.seq]
    else:
        _pin_source(objects, entry)
        objects.uploads[upload].append(entry.seq)


def _written(objects: _Objects, entry: Entry, key: Key) -> Iterator[int]:
    """What a write makes needless: the object before it, unless the write itself asked for that."""
    _pin_source(objects, entry)
    before = objects.live.pop(key, [])
    if "if-match" not in entry.request.headers:
        yield from before
    elif before:
        objects.pinned.add(key)


def _pin_source(objects: _Objects, entry: Entry) -> None:
    source = entry.request.headers.get("x-amz-copy-source")
    if source is not None:
        bucket, _, name = unquote(source.partition("?")[0]).lstrip("/").partition("/")
        if objects.live.pop((entry.account, bucket, name), None):
            objects.pinned.add((entry.account, bucket, name))


def _unescaped(text: bytes) -> str:
    return html.unescape(text.decode(errors="replace"))

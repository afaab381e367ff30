"""A replay of the history without what was superseded ends where the whole history ends."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from lambay.neighbours.history import superseded
from lambay.neighbours.journal import Entry, Recorded


@dataclass(frozen=True)
class Change:
    """One change to the bucket's objects: `key` is written, deleted, tagged or copied from `source`."""

    operation: str
    key: str
    source: str = ""
    upload: str = ""
    matching: bool = False


class Refused(Exception):
    """S3 would not have done it."""


@dataclass
class Bucket:
    """The model: an object is the list of changes that made it."""

    objects: dict[str, tuple[int, ...]]
    uploads: dict[str, tuple[str, tuple[int, ...]]]

    def apply(self, number: int, change: Change) -> None:
        if change.operation == "PutObject":
            self._require(not change.matching or change.key in self.objects)
            self.objects[change.key] = (number,)
        elif change.operation == "CopyObject":
            self._require(change.source in self.objects)
            self.objects[change.key] = (number, *self.objects[change.source])
        elif change.operation == "DeleteObject":
            self.objects.pop(change.key, None)
        elif change.operation == "PutObjectTagging":
            self._require(change.key in self.objects)
            self.objects[change.key] += (number,)
        elif change.operation == "CreateMultipartUpload":
            self._require(change.upload not in self.uploads)
            self.uploads[change.upload] = (change.key, ())
        else:
            self._require(self.uploads.get(change.upload, ("", ()))[0] == change.key)
            key, parts = self.uploads.pop(change.upload)
            if change.operation == "UploadPart":
                self.uploads[change.upload] = (key, (*parts, number))
            elif change.operation == "CompleteMultipartUpload":
                self._require(bool(parts))
                self.objects[key] = (number, *parts)

    @staticmethod
    def _require(holds: bool) -> None:
        if not holds:
            raise Refused


KEYS = st.sampled_from(["a", "b", "c/d"])
UPLOADS = st.sampled_from(["u1", "u2"])
CHANGES = st.one_of(
    st.builds(Change, st.sampled_from(["PutObject", "DeleteObject", "PutObjectTagging"]), KEYS),
    st.builds(Change, st.just("PutObject"), KEYS, matching=st.just(True)),
    st.builds(Change, st.just("CopyObject"), KEYS, source=KEYS),
    st.builds(
        Change,
        st.sampled_from(
            [
                "CreateMultipartUpload",
                "UploadPart",
                "UploadPart",
                "CompleteMultipartUpload",
                "AbortMultipartUpload",
            ]
        ),
        KEYS,
        upload=UPLOADS,
    ),
)


def entry(number: int, change: Change) -> Entry:
    query = {
        "CreateMultipartUpload": "?uploads",
        "PutObjectTagging": "?tagging",
    }.get(change.operation, f"?uploadId={change.upload}" if change.upload else "")
    headers = {"x-amz-copy-source": f"/bucket/{change.source}"} if change.source else {}
    if change.matching:
        headers["if-match"] = '"etag"'
    url = f"https://s3.eu-west-1.amazonaws.com/bucket/{change.key}{query}"
    recorded = Recorded("PUT", "s3.eu-west-1.amazonaws.com", url, headers, b"", ())
    subject = change.upload if change.operation == "CreateMultipartUpload" else ""
    return Entry(number, 0.0, b"", "1", "eu-west-1", "s3", change.operation, recorded, [], subject)


def accepted(changes: Iterable[Change]) -> tuple[list[tuple[int, Change]], Bucket]:
    bucket, done = Bucket({}, {}), []
    for number, change in enumerate(changes, start=1):
        # An upload's id is never used again.
        if change.operation == "CreateMultipartUpload" and any(
            made.operation == change.operation and made.upload == change.upload for _, made in done
        ):
            continue
        before = Bucket(dict(bucket.objects), dict(bucket.uploads))
        try:
            bucket.apply(number, change)
        except Refused:
            bucket = before
        else:
            done.append((number, change))
    return done, bucket


@settings(max_examples=1000, deadline=None)
@given(st.lists(CHANGES, max_size=25))
def test_what_is_left_out_is_not_missed(changes: list[Change]) -> None:
    done, whole = accepted(changes)
    dropped = set(superseded(entry(number, change) for number, change in done))
    replayed = Bucket({}, {})
    for number, change in done:
        if number not in dropped:
            replayed.apply(number, change)
    assert replayed == whole


def test_an_object_written_again_and_again_leaves_one_entry() -> None:
    changes = [entry(number, Change("PutObject", "a")) for number in range(1, 11)]
    assert sorted(superseded(changes)) == list(range(1, 10))

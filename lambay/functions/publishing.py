"""Published versions: immutable copies of `$LATEST`, numbered from 1."""

from __future__ import annotations

import msgspec

from lambay.functions.records import Function, Version, revision
from lambay.functions.resources import Resources
from lambay.store import Change


def published(
    resources: Resources, function: Function, latest: Version, description: str | None = None
) -> tuple[Version, list[Change]]:
    """The version that publishing `latest` gives, and what to commit for it.

    Nothing has changed since the last version: that version again. Publishing gives `$LATEST` a new
    revision too, as in Lambda.
    """
    newest = resources.versions_of(function.key)[-1:]
    if newest and newest[0].version != latest.version and _same(newest[0], latest):
        return newest[0], []
    configuration = latest.configuration
    if description is not None:
        configuration = msgspec.structs.replace(configuration, description=description)
    version = msgspec.structs.replace(
        latest,
        version=str(function.next_version),
        configuration=configuration,
        revision_id=revision(),
        previous=None,
    )
    counted = msgspec.structs.replace(function, next_version=function.next_version + 1)
    renewed = msgspec.structs.replace(latest, revision_id=revision())
    return version, [
        resources.versions.put(version.key, version),
        resources.functions.put(counted.key, counted),
        resources.versions.put(renewed.key, renewed),
    ]


def _same(newest: Version, latest: Version) -> bool:
    return newest.build == latest.build or (
        newest.code.digest == latest.code.digest and newest.configuration == latest.configuration
    )

"""Published versions: PublishVersion and ListVersionsByFunction."""

from __future__ import annotations

from typing import Any

from lambay.aws import Call
from lambay.functions.code import code_sha256
from lambay.functions.errors import function_not_found, invalid, stale_revision
from lambay.functions.lifecycle import check_not_updating
from lambay.functions.names import parse
from lambay.functions.pagination import page, paged
from lambay.functions.publishing import published
from lambay.functions.records import LATEST
from lambay.functions.rendering import function_configuration, listed_configuration
from lambay.functions.room import Operations


class VersionOperations(Operations):
    """See "Manage Lambda function versions" in the Developer Guide."""

    async def publish_version(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        name = parse(input["FunctionName"], call)
        if input.get("PublishTo"):
            raise invalid(
                "PublishTo: Lambda Managed Instances are not available in Lambay. Remove PublishTo."
            )
        if name.qualifier not in (None, LATEST):
            raise function_not_found(name.given_arn)
        self._resources.latest(name)
        async with self._resources.exclusive(name.key):
            latest = self._resources.latest(name)
            check_not_updating(latest, name)
            if input.get("RevisionId") not in (None, latest.revision_id):
                raise stale_revision()
            wanted = input.get("CodeSha256")
            if wanted and wanted != code_sha256(latest.code):
                raise invalid(
                    f"CodeSHA256 ({wanted}) is different from current CodeSHA256 in $LATEST "
                    f"({code_sha256(latest.code)}). Please try again with the CodeSHA256 in $LATEST."
                )
            function = self._resources.function(name)
            version, changes = published(self._resources, function, latest, input.get("Description") or None)
            if changes:
                await self._resources.commit(*changes)
        return function_configuration(version)

    async def list_versions_by_function(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        name = parse(input["FunctionName"], call)
        self._resources.latest(name)
        versions = self._resources.versions_of(name.key)
        taken, marker = page(
            versions,
            input,
            key=lambda version: (
                version.version if version.version == LATEST else f"{int(version.version):010d}"
            ),
        )
        return paged(
            "Versions", [listed_configuration(version, version.version) for version in taken], marker
        )

"""Applications, their revisions, and tags."""

from __future__ import annotations

import hashlib
import uuid
from typing import Any

import msgspec

from lambay.aws import AWSError, Call
from lambay.deployments import appspec
from lambay.deployments.records import Application, DeploymentGroup, Revision
from lambay.deployments.room import Operations, page

_MOST = 100


class ApplicationOperations(Operations):
    """See "Working with applications in CodeDeploy"."""

    async def create_application(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        """Applications of the compute platform Lambda; servers and containers are refused."""
        name = input["applicationName"]
        platform = input.get("computePlatform", "Server")
        if platform != "Lambda":
            raise AWSError(
                "InvalidComputePlatformException",
                f"computePlatform: {platform} is not available in Lambay, which deploys functions. Give Lambda.",
            )
        application = Application(
            call.account,
            call.region,
            name,
            id=str(uuid.uuid4()),
            created=self._clock.now(),
            tags=tags_of(input.get("tags")),
        )
        if application.key in self._applications:
            raise AWSError("ApplicationAlreadyExistsException", f"Application already exists: {name}")
        await self._store.commit(self._applications.put(application.key, application))
        return {"applicationId": application.id}

    async def get_application(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        return {"application": _shown(self._application(call, input["applicationName"]))}

    async def batch_get_applications(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        names = input["applicationNames"]
        if len(names) > _MOST:
            raise AWSError(
                "BatchLimitExceededException", f"At most {_MOST} applications can be asked for at once."
            )
        return {"applicationsInfo": [_shown(self._application(call, name)) for name in names]}

    async def list_applications(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        found = self._applications.under(f"{call.account}/{call.region}/")
        return page(
            found, input, key=lambda each: each.name, member="applications", shown=lambda each: each.name
        )

    async def update_application(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        """Gives an application another name; its groups, revisions and deployments go along."""
        application = self._application(call, input.get("applicationName"))
        name = input.get("newApplicationName")
        if not name or name == application.name:
            return {}
        renamed = msgspec.structs.replace(application, name=name)
        if renamed.key in self._applications:
            raise AWSError("ApplicationAlreadyExistsException", f"Application already exists: {name}")
        changes = [self._applications.remove(application.key), self._applications.put(renamed.key, renamed)]
        for group in self._groups.under(f"{application.key}/"):
            moved = msgspec.structs.replace(group, application=name)
            changes += [self._groups.remove(group.key), self._groups.put(moved.key, moved)]
        for revision in self._revisions.under(f"{application.key}/"):
            carried = msgspec.structs.replace(revision, application=name)
            changes += [self._revisions.remove(revision.key), self._revisions.put(carried.key, carried)]
        for deployment in self._deployments.under(f"{call.account}/{call.region}/"):
            if deployment.application == application.name:
                changed = msgspec.structs.replace(deployment, application=name)
                changes.append(self._deployments.put(changed.key, changed))
        await self._store.commit(*changes)
        return {}

    async def delete_application(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        """Deleting one that isn't there succeeds, as in CodeDeploy."""
        key = f"{call.account}/{call.region}/{input['applicationName']}"
        if key in self._applications:
            changes = [self._applications.remove(key)]
            changes += [self._groups.remove(group.key) for group in self._groups.under(f"{key}/")]
            changes += [self._revisions.remove(each.key) for each in self._revisions.under(f"{key}/")]
            await self._store.commit(*changes)
        return {}

    async def register_application_revision(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        application = self._application(call, input["applicationName"])
        text = appspec.content(input["revision"])
        if text is not None:
            appspec.parse(text)
        revision = self._revision(application, input["revision"])
        changed = msgspec.structs.replace(
            revision, description=input.get("description", revision.description)
        )
        await self._store.commit(self._revisions.put(changed.key, changed))
        return {}

    async def get_application_revision(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        application = self._application(call, input["applicationName"])
        found = self._revisions.get(f"{application.key}/{digest(input['revision'])}")
        if found is None:
            raise AWSError("RevisionDoesNotExistException", "This revision is not registered.")
        return {
            "applicationName": application.name,
            "revision": found.location,
            "revisionInfo": _used(found),
        }

    async def list_application_revisions(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        application = self._application(call, input["applicationName"])
        found = self._revisions.under(f"{application.key}/")
        if bucket := input.get("s3Bucket"):
            found = [each for each in found if each.location.get("s3Location", {}).get("bucket") == bucket]
        if input.get("deployed") in ("include", "exclude"):
            wanted = input["deployed"] == "include"
            found = [each for each in found if (each.first_used is not None) == wanted]
        return page(
            found,
            input,
            key=lambda each: (each.registered.timestamp(), each.digest),
            member="revisions",
            shown=lambda each: each.location,
        )

    async def batch_get_application_revisions(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        application = self._application(call, input["applicationName"])
        found = (self._revisions.get(f"{application.key}/{digest(each)}") for each in input["revisions"])
        known = [each for each in found if each is not None]
        shown = [{"revisionLocation": each.location, "genericRevisionInfo": _used(each)} for each in known]
        return {"applicationName": application.name, "revisions": shown}

    async def tag_resource(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        tagged = self._tagged(call, input["ResourceArn"])
        await self._put_tags(tagged, tagged.tags | tags_of(input["Tags"]))
        return {}

    async def untag_resource(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        tagged = self._tagged(call, input["ResourceArn"])
        left = {key: value for key, value in tagged.tags.items() if key not in input["TagKeys"]}
        await self._put_tags(tagged, left)
        return {}

    async def list_tags_for_resource(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        tags = self._tagged(call, input["ResourceArn"]).tags
        return {"Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}

    async def _put_tags(self, tagged: Application | DeploymentGroup, tags: dict[str, str]) -> None:
        if isinstance(tagged, Application):
            application = msgspec.structs.replace(tagged, tags=tags)
            await self._store.commit(self._applications.put(application.key, application))
        else:
            group = msgspec.structs.replace(tagged, tags=tags)
            await self._store.commit(self._groups.put(group.key, group))

    def _revision(self, application: Application, location: dict[str, Any]) -> Revision:
        """The revision as it is registered, or as it would be."""
        made = Revision(
            application.account,
            application.region,
            application.name,
            digest(location),
            location,
            self._clock.now(),
        )
        return self._revisions.get(made.key) or made


def digest(location: dict[str, Any]) -> str:
    return hashlib.sha256(msgspec.json.encode(location, order="sorted")).hexdigest()


def tags_of(given: list[dict[str, str]] | None) -> dict[str, str]:
    return {tag["Key"]: tag.get("Value", "") for tag in given or []}


def _shown(application: Application) -> dict[str, Any]:
    return {
        "applicationId": application.id,
        "applicationName": application.name,
        "createTime": application.created,
        "linkedToGitHub": False,
        "computePlatform": "Lambda",
    }


def _used(revision: Revision) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "description": revision.description,
        "deploymentGroups": list(revision.groups),
        "registerTime": revision.registered,
    }
    if revision.first_used is not None:
        shown |= {"firstUsedTime": revision.first_used, "lastUsedTime": revision.last_used}
    return shown

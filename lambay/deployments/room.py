"""What every family of operations stands on."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from lambay.aws import Arn, Ask, AWSError, Call, Service
from lambay.clock import Clock
from lambay.deployments.ports import Roles
from lambay.deployments.records import Application, Deployment, DeploymentConfig, DeploymentGroup, Revision
from lambay.deployments.rollout import Rollouts
from lambay.pages import paginate
from lambay.store import Collection, Store

T = TypeVar("T")

_PAGE = 100
_TAG_ARN = re.compile(r"(application|deploymentgroup):(.+)")


class Operations(Service):
    """A family of operations; the service sets what they declare."""

    service_name = "codedeploy"
    _store: Store
    _applications: Collection[Application]
    _groups: Collection[DeploymentGroup]
    _configs: Collection[DeploymentConfig]
    _deployments: Collection[Deployment]
    _revisions: Collection[Revision]
    _rollouts: Rollouts
    _ask: Ask
    _clock: Clock
    _roles: Roles

    def _application(self, call: Call, name: str | None) -> Application:
        if not name:
            raise AWSError("ApplicationNameRequiredException", "Application name must be specified")
        found = self._applications.get(f"{call.account}/{call.region}/{name}")
        if found is None:
            raise AWSError("ApplicationDoesNotExistException", f"No application found for name: {name}")
        return found

    def _group(self, call: Call, application: str | None, name: str | None) -> DeploymentGroup:
        known = self._application(call, application)
        if not name:
            raise AWSError("DeploymentGroupNameRequiredException", "Deployment group name must be specified")
        found = self._groups.get(f"{known.key}/{name}")
        if found is None:
            raise AWSError(
                "DeploymentGroupDoesNotExistException", f"No Deployment Group found for name: {name}"
            )
        return found

    def _deployment(self, call: Call, number: str | None) -> Deployment:
        if not number:
            raise AWSError("DeploymentIdRequiredException", "Deployment ID must be specified")
        found = self._deployments.get(f"{call.account}/{call.region}/{number}")
        if found is None:
            raise AWSError("DeploymentDoesNotExistException", f"The deployment {number} could not be found")
        return found

    def _tagged(self, call: Call, arn: str) -> Application | DeploymentGroup:
        try:
            parts = Arn.parse(arn)
        except ValueError:
            raise AWSError("InvalidArnException", f"{arn} is not an ARN.") from None
        named = _TAG_ARN.fullmatch(parts.resource)
        if named is None or parts.service != "codedeploy":
            raise AWSError("ArnNotSupportedException", f"{arn} is not an application or a deployment group.")
        if named[1] == "application":
            return self._application(call, named[2])
        application, _, group = named[2].partition("/")
        return self._group(call, application, group)


def page(
    items: Sequence[T],
    input: dict[str, Any],
    *,
    key: Callable[[T], Any],
    member: str,
    shown: Callable[[T], Any],
) -> dict[str, Any]:
    """The output of a list operation. Raises InvalidNextTokenException."""
    found = paginate(
        items,
        key=key,
        token=input.get("nextToken"),
        limit=_PAGE,
        invalid=lambda text: AWSError("InvalidNextTokenException", text),
        scope=member,
    )
    answer: dict[str, Any] = {member: [shown(item) for item in found.items]}
    if found.next_token:
        answer["nextToken"] = found.next_token
    return answer

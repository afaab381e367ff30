"""What Lambda asks of IAM, in a world without IAM's records: roles by the neighbours' answers, policies for real."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from lambay.aws import AWSError, Principal
from lambay.identity.policy import Policies, Policy, Request, context, evaluate, principal_context


class FakeAccess:
    """A role that GetRole knows and that names Lambda in its trust policy may be assumed; `missing_rights` it lacks."""

    def __init__(self, neighbours: Any) -> None:
        self.neighbours = neighbours
        self.missing_rights: set[str] = set()

    async def assumable(self, role_arn: str, *, source_arn: str, region: str) -> bool:
        name, account = role_arn.rsplit("/", 1)[-1], role_arn.split(":")[4]
        asked = {"RoleName": name}
        try:
            found = await self.neighbours.call("iam", "GetRole", asked, account=account, region=region)
        except AWSError:
            return False
        trust = json.dumps(found["Role"]["AssumeRolePolicyDocument"])
        return found["Role"]["Arn"] == role_arn and "lambda.amazonaws.com" in trust

    async def lacking(self, role_arn: str, action: str, resource: str | None = None, *, region: str) -> str:
        return f"{role_arn} lacks {action}" if action in self.missing_rights else ""

    def service_may(
        self, service: str, action: str, resource: str, document: str | None, keys: Mapping[str, str]
    ) -> bool:
        return _allows(Principal("service", "", "", service), action, resource, document, keys)

    def anybody_may(self, action: str, resource: str, document: str | None, keys: Mapping[str, str]) -> bool:
        return _allows(Principal("anonymous", "", "", "anonymous"), action, resource, document, keys)


def _allows(
    principal: Principal, action: str, resource: str, document: str | None, keys: Mapping[str, str]
) -> bool:
    if document is None:
        return False
    request = Request(principal, action, (resource,), {**context(keys), **principal_context(principal)})
    return evaluate(request, Policies(resource=Policy.parse(document, attached_to="resource"))).allowed

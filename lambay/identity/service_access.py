"""What services ask of IAM: of the roles that they act as, and of the policies of what they own."""

from __future__ import annotations

from collections.abc import Mapping

from lambay.aws import AWSError, Call, Principal
from lambay.identity.authentication import Identity
from lambay.identity.permissions import parsed_of_resource
from lambay.identity.policy import Policies, Request, context, evaluate, principal_context
from lambay.identity.principals import IamRecords

LAMBDA = "lambda.amazonaws.com"


class ServiceAccess:
    """Asked by the services themselves, at the moment when they need it."""

    def __init__(self, identity: Identity, iam: IamRecords) -> None:
        self._identity = identity
        self._iam = iam

    async def assumable(
        self, role_arn: str, *, source_arn: str = "", region: str = "", service: str = LAMBDA
    ) -> bool:
        """Whether the role is there and its trust policy lets `service` assume it for `source_arn`.

        The account of `source_arn` is `aws:SourceAccount`, by which a trust policy keeps a confused deputy out.
        """
        role = await self._iam.role(role_arn)
        if role is None:
            return False
        call = Call("", role.account, region, service_principal(service))
        keys = {"aws:SourceArn": source_arn or None, "aws:SourceAccount": role.account}
        return (await self._identity.permissions.may_assume(call, role, keys)).allowed

    async def lacking(
        self,
        role_arn: str,
        action: str,
        resource: str | None = None,
        *,
        region: str,
        session_name: str = "lambda",
        keys: Mapping[str, str] | None = None,
    ) -> str:
        """Why a session of the role may not do `action`, a sentence; empty where it may.

        `resource` None: some resource, of which nobody knows yet which. Without enforcement everything may be.
        """
        if not self._identity.enforces:
            return ""
        try:
            principal = await self._identity.role_principal(role_arn, session_name)
        except AWSError as error:
            return error.message
        call = Call("", principal.account, region, principal)
        verdict = await self._identity.permissions.decide(call, action, (resource,), keys or {})
        return "" if verdict.allowed else verdict.sentence

    def service_may(
        self, service: str, action: str, resource: str, document: str | None, keys: Mapping[str, str]
    ) -> bool:
        """Whether the resource's policy lets an AWS service (`s3.amazonaws.com`) do `action` for another's sake.

        `keys` say for whom: `aws:SourceArn`, `aws:SourceAccount`.
        """
        return _allows(service_principal(service), action, resource, document, keys)

    def anybody_may(self, action: str, resource: str, document: str | None, keys: Mapping[str, str]) -> bool:
        """Whether the resource's policy lets callers without credentials do `action`."""
        anybody = Principal(kind="anonymous", account="", arn="", user_id="anonymous")
        return _allows(anybody, action, resource, document, keys)


def _allows(
    principal: Principal, action: str, resource: str, document: str | None, keys: Mapping[str, str]
) -> bool:
    if document is None:
        return False
    request = Request(principal, action, (resource,), {**context(keys), **principal_context(principal)})
    return evaluate(request, Policies(resource=parsed_of_resource(resource, document))).allowed


def service_principal(service: str) -> Principal:
    """An AWS service that acts for itself, such as `s3.amazonaws.com`."""
    return Principal(kind="service", account="", arn="", user_id=service)

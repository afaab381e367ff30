"""Whether a request is allowed, and by which statement it was decided.

IAM User Guide, "How AWS enforcement code logic evaluates requests to allow or deny access", "Cross-account
policy evaluation logic" and "Troubleshoot access denied error messages". Organizations' policies are not
part of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from lambay.aws import Principal
from lambay.identity.policy.document import Policy, Statement
from lambay.identity.policy.named import Caller, Grant, caller
from lambay.identity.policy.patterns import Context


class Decision(Enum):
    ALLOWED = "allowed"
    EXPLICIT_DENY = "explicit deny"
    IMPLICIT_DENY = "implicit deny"


class PolicyType(Enum):
    """The kinds of policies, by the words of AWS's messages."""

    RESOURCE = "resource-based policy"
    TRUST = "role trust policy"
    IDENTITY = "identity-based policy"
    BOUNDARY = "permissions boundary"
    SESSION = "session policy"


@dataclass(frozen=True, slots=True)
class Policies:
    """All policies that have a say in a request.

    `identity` holds a user's own and those of its groups, or a role's; a session of GetFederationToken has
    those of the user who federated. `session` is None where none was passed.
    """

    identity: tuple[Policy, ...] = ()
    resource: Policy | None = None
    boundary: Policy | None = None
    session: tuple[Policy, ...] | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """Who wants to do what.

    `action` is `SERVICE:Action`, `resources` are ARNs, or `*` for an action that knows no resources, or None
    for one that is not known (see `Statement.applies`); each one has to be allowed. `context` is made by
    `context()`. `resource_account` owns the resources: the principal's account where it is empty. KMS keys
    and roles to assume are used only with leave of their own policy: `resource_policy_required`; for a role's
    it is a `role trust policy`. `federated_by` is the ARN of whoever made a federated user's session.
    """

    principal: Principal
    action: str
    resources: tuple[str | None, ...] = ("*",)
    context: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    resource_account: str = ""
    resource_policy_required: bool = False
    resource_policy_type: PolicyType = PolicyType.RESOURCE
    federated_by: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """A decision about one resource of a request, and what it rests on.

    `policy` and `statement` are those that decided; None for an implicit deny, and for root's own right.
    `policy_type` is the kind of policy that decided, for an implicit deny the kind that did not allow.
    """

    decision: Decision
    principal: Principal
    action: str
    resource: str
    policy_type: PolicyType | None
    policy: Policy | None = None
    statement: Statement | None = None

    @property
    def allowed(self) -> bool:
        return self.decision is Decision.ALLOWED

    @property
    def sentence(self) -> str:
        """AWS's sentence of an AccessDenied; for what is allowed, which statement allows it."""
        who = self.principal.arn or self.principal.user_id
        what = f"{self.action} on resource: {self.resource}"
        if self.decision is Decision.ALLOWED:
            return f"User: {who} is authorized to perform: {what}{self._allowed_by()}"
        refused = f"User: {who} is not authorized to perform: {what}"
        assert self.policy_type is not None
        words = self.policy_type.value
        if self.decision is Decision.IMPLICIT_DENY:
            return f"{refused} because no {words} allows the {self.action} action"
        article = {PolicyType.TRUST: "the", PolicyType.IDENTITY: "an"}.get(self.policy_type, "a")
        return f"{refused} with an explicit deny in {article} {words}"

    @property
    def decided_by(self) -> str:
        """The statement and policy that decided, in words; empty where none did."""
        if self.policy is None or self.statement is None or self.policy_type is None:
            return ""
        name = f" {self.policy.name}" if self.policy.name else ""
        return f"{self.statement} of {self.policy_type.value}{name}"

    def _allowed_by(self) -> str:
        return f" by {self.decided_by}" if self.decided_by else " as the account's root user"


def evaluate(request: Request, policies: Policies) -> Verdict:
    """The verdict on the request: of its resources the first that is explicitly denied, or else the first
    that nothing allows, or else the first.
    """
    who = caller(request.principal, request.federated_by)
    if len(request.resources) == 1:
        return _Evaluation(request, policies, who, request.resources[0]).verdict()
    verdicts = [_Evaluation(request, policies, who, resource).verdict() for resource in request.resources]
    for decision in (Decision.EXPLICIT_DENY, Decision.IMPLICIT_DENY):
        for verdict in verdicts:
            if verdict.decision is decision:
                return verdict
    return verdicts[0]


class _Found(NamedTuple):
    policy: Policy
    statement: Statement


class _Evaluation:
    """One resource of a request, step by step in AWS's order."""

    __slots__ = ("_context", "_policies", "_request", "_resource", "_who")

    def __init__(self, request: Request, policies: Policies, who: Caller, resource: str | None) -> None:
        self._request = request
        self._policies = policies
        self._who = who
        self._resource = resource
        self._context: Context = request.context

    def verdict(self) -> Verdict:
        denied = self._explicit_deny()
        if denied is not None:
            return denied
        grant, granted = self._resource_grant()
        if self._request.principal.kind in ("service", "anonymous"):
            return self._allowed_by_resource(granted) if granted else self._implicit(self._resource_type)
        same_account = self._request.resource_account in ("", self._who.account)
        if grant is Grant.NONE and (not same_account or self._request.resource_policy_required):
            return self._implicit(self._resource_type)
        if same_account and grant is Grant.DIRECT:
            return self._allowed_by_resource(granted)
        return self._by_identity(granted if same_account and grant is Grant.ENTITY else None)

    def _by_identity(self, granted: _Found | None) -> Verdict:
        """What identity, boundary and session policies say. `granted` is a grant of the resource's policy to
        the role or user behind the session, which stands in for the identity-based policies.
        """
        root = self._request.principal.kind == "root"
        allowed = granted or (None if root else self._allow(self._policies.identity))
        if allowed is None and not root:
            return self._implicit(PolicyType.IDENTITY)
        boundary = self._policies.boundary
        if boundary is not None and self._allow((boundary,)) is None:
            return self._implicit(PolicyType.BOUNDARY)
        session = self._policies.session
        if session is None:
            # A federated user without session policies has no permissions of the user who federated.
            if self._request.principal.kind == "federated-user":
                return self._implicit(PolicyType.SESSION)
        elif self._allow(session) is None:
            return self._implicit(PolicyType.SESSION)
        if allowed is None:
            return self._verdict(Decision.ALLOWED, None)
        return self._verdict(
            Decision.ALLOWED, self._resource_type if allowed is granted else PolicyType.IDENTITY, allowed
        )

    def _explicit_deny(self) -> Verdict | None:
        policies = self._policies
        action = self._request.action
        resource = policies.resource
        if resource is not None:
            for statement in resource.covering(action).denies:
                if (statement.principal is None or statement.principal.denies(self._who)) and self._applies(
                    statement
                ):
                    return self._deny(self._resource_type, _Found(resource, statement))
        found = self._denying(policies.identity)
        if found is not None:
            return self._deny(PolicyType.IDENTITY, found)
        if policies.boundary is not None:
            found = self._denying((policies.boundary,))
            if found is not None:
                return self._deny(PolicyType.BOUNDARY, found)
        if policies.session:
            found = self._denying(policies.session)
            if found is not None:
                return self._deny(PolicyType.SESSION, found)
        return None

    def _denying(self, policies: Iterable[Policy]) -> _Found | None:
        for policy in policies:
            for statement in policy.covering(self._request.action).denies:
                if statement.applies(self._resource, self._context):
                    return _Found(policy, statement)
        return None

    def _resource_grant(self) -> tuple[Grant, _Found | None]:
        """The widest grant of the resource's policy, and its statement."""
        widest: tuple[Grant, _Found | None] = (Grant.NONE, None)
        policy = self._policies.resource
        if policy is None:
            return widest
        for statement in policy.covering(self._request.action).allows:
            grant = statement.principal.grant(self._who) if statement.principal else Grant.NONE
            if grant > widest[0] and self._applies(statement):
                widest = (grant, _Found(policy, statement))
                if grant is Grant.DIRECT:
                    break
        return widest

    def _allow(self, policies: Iterable[Policy]) -> _Found | None:
        for policy in policies:
            for statement in policy.covering(self._request.action).allows:
                if statement.applies(self._resource, self._context):
                    return _Found(policy, statement)
        return None

    def _applies(self, statement: Statement) -> bool:
        return statement.applies(self._resource, self._context)

    @property
    def _resource_type(self) -> PolicyType:
        return self._request.resource_policy_type

    def _allowed_by_resource(self, granted: _Found | None) -> Verdict:
        return self._verdict(Decision.ALLOWED, self._resource_type, granted)

    def _deny(self, policy_type: PolicyType, found: _Found) -> Verdict:
        return self._verdict(Decision.EXPLICIT_DENY, policy_type, found)

    def _implicit(self, policy_type: PolicyType) -> Verdict:
        return self._verdict(Decision.IMPLICIT_DENY, policy_type)

    def _verdict(
        self, decision: Decision, policy_type: PolicyType | None, found: _Found | None = None
    ) -> Verdict:
        policy, statement = found if found is not None else (None, None)
        request = self._request
        return Verdict(
            decision, request.principal, request.action, self._resource or "*", policy_type, policy, statement
        )

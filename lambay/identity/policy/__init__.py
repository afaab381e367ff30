"""IAM policies: what they are, what they mean, and whether they allow a request.

Pure: documents and a request in, a verdict with its reason out. Where policies are kept, and what is done with
a verdict, is others' business.
"""

from lambay.identity.policy.context import context, principal_context
from lambay.identity.policy.document import Policy, Statement
from lambay.identity.policy.errors import MalformedPolicy
from lambay.identity.policy.evaluation import (
    Decision,
    Policies,
    PolicyType,
    Request,
    Verdict,
    evaluate,
)
from lambay.identity.policy.mounting import MountDecision, mount_decision

__all__ = [
    "Decision",
    "MalformedPolicy",
    "MountDecision",
    "Policies",
    "Policy",
    "PolicyType",
    "Request",
    "Statement",
    "Verdict",
    "context",
    "evaluate",
    "mount_decision",
    "principal_context",
]

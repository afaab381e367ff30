"""Resource policies: statements from a permission's parameters, their order, revisions and size."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from lambay.aws import DEFAULT_PARTITION, AWSError
from lambay.functions.errors import conflict, invalid, missing, stale_revision
from lambay.functions.records import Policy, revision
from lambay.functions.rendering import policy_document

_LIMIT = 20_480
_ACCOUNT = re.compile(r"\d{12}")
_IAM_ARN = re.compile(
    r"arn:aws[a-zA-Z-]*:(?:iam|sts)::\d{12}:(?:root|(?:user|role|assumed-role|federated-user)/.+)"
)
_SERVICE = re.compile(r"[a-z0-9-]+(?:\.[a-z0-9-]+)*\.(?:amazonaws\.com(?:\.cn)?|amazon\.com)")


def principal(text: str) -> str | dict[str, str]:
    """A statement's Principal: everybody, an account, an IAM ARN or a service.

    Raises InvalidParameterValueException.
    """
    if text == "*":
        return "*"
    if _ACCOUNT.fullmatch(text):
        return {"AWS": f"arn:{DEFAULT_PARTITION}:iam::{text}:root"}
    if _IAM_ARN.fullmatch(text):
        return {"AWS": text}
    if _SERVICE.fullmatch(text):
        return {"Service": text}
    raise invalid("The provided principal was invalid. Please check the principal and try again.")


def statement(input: Mapping[str, Any], resource: str) -> dict[str, Any]:
    """The statement that AddPermission or AddLayerVersionPermission adds."""
    made: dict[str, Any] = {
        "Sid": input["StatementId"],
        "Effect": "Allow",
        "Principal": principal(input["Principal"]),
        "Action": input["Action"],
        "Resource": resource,
    }
    equals = {
        "AWS:SourceAccount": input.get("SourceAccount"),
        "lambda:EventSourceToken": input.get("EventSourceToken"),
        "lambda:FunctionUrlAuthType": input.get("FunctionUrlAuthType"),
        "aws:PrincipalOrgID": input.get("PrincipalOrgID") or input.get("OrganizationId"),
    }
    conditions: dict[str, dict[str, str]] = {}
    if given := {key: value for key, value in equals.items() if value}:
        conditions["StringEquals"] = given
    if input.get("SourceArn"):
        conditions["ArnLike"] = {"AWS:SourceArn": input["SourceArn"]}
    if input.get("InvokedViaFunctionUrl") is not None:
        conditions["Bool"] = {"lambda:InvokedViaFunctionUrl": str(input["InvokedViaFunctionUrl"]).lower()}
    if conditions:
        made["Condition"] = conditions
    return made


def with_statement(
    policy: Policy | None, added: dict[str, Any], expected: str | None, *, reader: str
) -> Policy:
    """The policy with a statement more.

    Raises ResourceConflictException for a statement id that is taken, PreconditionFailedException where
    `expected` is not the policy's revision (`reader` tells it) and PolicyLengthExceededException over 20 KB.
    """
    if expected is not None and (policy is None or expected != policy.revision_id):
        raise stale_revision(reader)
    statements = policy.statements if policy is not None else ()
    if any(known.get("Sid") == added["Sid"] for known in statements):
        raise conflict(
            f"The statement id ({added['Sid']}) provided already exists. Please provide a new statement id, "
            "or remove the existing statement."
        )
    changed = Policy(revision_id=revision(), statements=(*statements, added))
    size = len(policy_document(changed))
    if size > _LIMIT:
        raise AWSError(
            "PolicyLengthExceededException",
            f"The final policy size ({size}) is bigger than the limit ({_LIMIT}).",
            Type="User",
        )
    return changed


def without_statement(policy: Policy, sid: str, expected: str | None, *, reader: str) -> Policy | None:
    """The policy without that statement; None when it was the last.

    Raises ResourceNotFoundException and PreconditionFailedException.
    """
    kept = tuple(known for known in policy.statements if known.get("Sid") != sid)
    if len(kept) == len(policy.statements):
        raise missing(f"Statement {sid} is not found in resource policy.")
    if expected is not None and expected != policy.revision_id:
        raise stale_revision(reader)
    return Policy(revision_id=revision(), statements=kept) if kept else None


def parsed(document: str, resource: str) -> tuple[dict[str, Any], ...]:
    """The statements of a whole policy for `resource`. Raises InvalidParameterValueException."""
    try:
        policy = json.loads(document)
    except ValueError as error:
        raise invalid(f"Policy: it is not JSON: {error}") from None
    statements = policy.get("Statement") if isinstance(policy, dict) else None
    if isinstance(statements, dict):
        statements = [statements]
    if not isinstance(statements, list) or not statements:
        raise invalid("Policy: it has no Statement.")
    for number, known in enumerate(statements, start=1):
        if not isinstance(known, dict) or known.get("Effect") not in ("Allow", "Deny"):
            raise invalid(f"Policy: statement {number} has no Effect of Allow or Deny.")
        if "Principal" not in known or "Action" not in known:
            raise invalid(f"Policy: statement {number} needs Principal and Action.")
        if not all(action == "*" or action.startswith("lambda:") for action in _listed(known["Action"])):
            raise invalid(f"Policy: statement {number} has an Action that is not Lambda's.")
        if any(given != resource for given in _listed(known.get("Resource", resource))):
            raise invalid(f"Policy: the Resource of statement {number} is not {resource}.")
    sids = [known["Sid"] for known in statements if "Sid" in known]
    if len(set(sids)) < len(sids):
        raise invalid("Policy: two statements have the same Sid.")
    return tuple(statements)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def statement_text(made: Mapping[str, Any]) -> str:
    return json.dumps(made, separators=(",", ":"))

"""Why a resource failed, in the words of CloudFormation's events."""

from __future__ import annotations

import uuid

from lambay.aws import AWSError

_HANDLER_CODES = (
    ("AccessDenied", "AccessDenied"),
    ("UnauthorizedOperation", "AccessDenied"),
    ("NotFound", "NotFound"),
    ("NoSuch", "NotFound"),
    ("AlreadyExists", "AlreadyExists"),
    ("EntityAlreadyExists", "AlreadyExists"),
    ("Conflict", "ResourceConflict"),
    ("Limit", "ServiceLimitExceeded"),
    ("Throttl", "Throttling"),
    ("Validation", "InvalidRequest"),
    ("Invalid", "InvalidRequest"),
    ("BadRequest", "InvalidRequest"),
)


def reason_of(error: AWSError) -> str:
    """As a resource handler reports it."""
    if error.code == "GeneralServiceException":
        return error.message
    if error.code == "ValidationError" and error.message.startswith("Template error"):
        return error.message
    code = next(
        (meaning for part, meaning in _HANDLER_CODES if part in error.code), "GeneralServiceException"
    )
    return (
        f'Resource handler returned message: "{error.message} (Error Code: {error.code})" '
        f"(RequestToken: {uuid.uuid4()}, HandlerErrorCode: {code})"
    )

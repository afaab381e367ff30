"""The errors that several modules of the room raise, with the members that Lambda gives them."""

from __future__ import annotations

from lambay.aws import AWSError


def invalid(message: str) -> AWSError:
    return AWSError("InvalidParameterValueException", message, Type="User")


def validation(value: object, field: str, constraint: str) -> AWSError:
    """Lambda's answer to input that breaks its model, for limits tighter than the model's."""
    return AWSError(
        "ValidationException",
        f"1 validation error detected: Value '{value}' at '{field}' failed to satisfy constraint: "
        f"{constraint}",
        status=400,
    )


def missing(message: str) -> AWSError:
    return AWSError("ResourceNotFoundException", message, Type="User")


def function_not_found(arn: str) -> AWSError:
    return missing(f"Function not found: {arn}")


def conflict(message: str) -> AWSError:
    return AWSError("ResourceConflictException", message, Type="User")


def denied(message: str) -> AWSError:
    return AWSError("AccessDeniedException", message, status=403)


def too_large(message: str) -> AWSError:
    return AWSError("RequestEntityTooLargeException", message, status=413)


def stale_revision(call: str = "GetFunction/GetAlias") -> AWSError:
    """The caller's RevisionId is not the resource's; `call` reads the right one."""
    return AWSError(
        "PreconditionFailedException",
        "The Revision Id provided does not match the latest Revision Id. "
        f"Call the {call} API to retrieve the latest Revision Id",
        Type="User",
    )


def code_signing_not_found(arn: str) -> AWSError:
    return AWSError(
        "CodeSigningConfigNotFoundException",
        "The code signing configuration cannot be found. Check that the provided configuration is not "
        f"deleted: {arn}.",
        Type="User",
    )

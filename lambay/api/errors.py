"""An AWSError seen through its service's model: code, status and members, ready for any protocol to write."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lambay.api.model import ServiceModel, Shape
from lambay.aws import AWSError

_INTERNAL = (
    "ServiceException",
    "InternalServerError",
    "InternalServerException",
    "InternalServiceError",
    "InternalServiceFault",
    "ServerException",
)


@dataclass(frozen=True, slots=True)
class Fault:
    """`shape` is the model's exception or None; `members` are by model names, the message's among them."""

    code: str
    message: str
    status: int
    shape: Shape | None
    members: Mapping[str, Any]

    @property
    def sender(self) -> bool:
        """Whose fault it is, as query protocols tell."""
        return self.status < 500

    @classmethod
    def of(cls, error: AWSError, service: ServiceModel | None) -> Fault:
        """The model's status wins over the error's own, which wins over 400."""
        shape = service.errors.get(error.code) if service is not None else None
        if shape is None:
            return cls(error.code, error.message, error.status or 400, None, error.members)
        members = {name: value for name, value in error.members.items() if name in shape.members}
        for name in shape.members:
            if name not in members:
                value = _usual(name, shape, error)
                if value is not None:
                    members[name] = value
        return cls(shape.name, error.message, shape.error_status, shape, members)


def internal(service: ServiceModel | None) -> AWSError:
    """What a service says when something of ours broke; it never tells what."""
    for code in _INTERNAL:
        shape = service.errors.get(code) if service is not None else None
        if shape is not None and shape.error_status >= 500:
            return AWSError(code, "An internal error occurred.")
    return AWSError("InternalFailure", "An internal error occurred.", status=500)


def not_implemented(service: str, operation: str) -> AWSError:
    return AWSError(
        "NotImplementedException", f"{service}:{operation} is not implemented by Lambay", status=501
    )


def _usual(name: str, shape: Shape, error: AWSError) -> str | None:
    """Members that every error of a service has: the text, EFS's ErrorCode, Lambda's Type."""
    if name.lower() == "message":
        return error.message
    if name in ("ErrorCode", "Code"):
        return shape.error_code
    if name == "Type" and shape.members[name].shape.type == "string":
        return "User" if shape.error_status < 500 else "Service"
    return None

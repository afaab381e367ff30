"""The errors of the `cloudwatch` API."""

from __future__ import annotations

from lambay.aws import AWSError


def invalid_value(message: str) -> AWSError:
    return AWSError("InvalidParameterValueException", message)


def invalid_combination(message: str) -> AWSError:
    return AWSError("InvalidParameterCombinationException", message)


def missing(message: str) -> AWSError:
    return AWSError("MissingRequiredParameterException", message)


def validation(message: str) -> AWSError:
    """What GetMetricData and alarms answer with; the model does not list it."""
    return AWSError("ValidationError", message, status=400)


def not_found(message: str) -> AWSError:
    return AWSError("ResourceNotFoundException", message)

"""What is wrong with a template or a stack's input: CloudFormation says it all with one code."""

from __future__ import annotations

from lambay.aws import AWSError


def invalid(message: str) -> AWSError:
    return AWSError("ValidationError", message, status=400)


def malformed(message: str) -> AWSError:
    return invalid(f"Template format error: {message}")


def faulty(message: str) -> AWSError:
    return invalid(f"Template error: {message}")

"""Runtime versions: what INIT_START, the functions' configurations and runtime management call this host's builds."""

from __future__ import annotations

import functools
import hashlib
import platform

from lambay.aws import DEFAULT_PARTITION


@functools.cache
def runtime_version_arn(region: str, runtime: str) -> str:
    """The RuntimeVersionArn that stands for the host's build of `runtime`."""
    digest = hashlib.sha256(f"{platform.node()}/{runtime}/{platform.version()}".encode()).hexdigest()
    return f"arn:{DEFAULT_PARTITION}:lambda:{region}::runtime:{digest}"

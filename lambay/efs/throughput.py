"""Which throughput settings EFS accepts, and which changes it makes wait. Pure.

EFS User Guide, "Managing file system throughput": after a switch to provisioned throughput or a change of its
amount, leaving that mode and decreasing the amount are restricted for 24 hours.
"""

from __future__ import annotations

from lambay.aws import AWSError
from lambay.efs.errors import bad_request

RESTRICTION_SECONDS = 24 * 3600.0


def check_throughput(mode: str, provisioned: float | None, performance: str, limit: float) -> None:
    """`provisioned` and `limit` in MiB/s. Raises BadRequest, ThroughputLimitExceeded."""
    if mode == "provisioned" and provisioned is None:
        raise bad_request("ProvisionedThroughputInMibps is required with ThroughputMode provisioned.")
    if mode != "provisioned" and provisioned is not None:
        raise bad_request(f"ProvisionedThroughputInMibps needs ThroughputMode provisioned, not {mode}.")
    if mode == "elastic" and performance == "maxIO":
        raise bad_request("ThroughputMode: elastic is not supported with PerformanceMode maxIO.")
    if provisioned is not None and provisioned > limit:
        raise AWSError(
            "ThroughputLimitExceeded",
            f"ProvisionedThroughputInMibps: {provisioned:g} exceeds the limit of {limit:g} MiB/s.",
        )


def restricts(mode: str, provisioned: float | None, new_mode: str, new_provisioned: float | None) -> bool:
    """Whether the change is one of those that are possible once in 24 hours."""
    if mode != "provisioned":
        return False
    return new_mode != "provisioned" or (new_provisioned or 0) < (provisioned or 0)

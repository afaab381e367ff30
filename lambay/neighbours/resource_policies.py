"""Policies of the neighbours' resources, read in moto's own records: queues, topics, buckets, keys.

Like `access_keys` these are on the way of requests, so they read the backends' objects and create none.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from lambay.aws import DEFAULT_PARTITION, Arn


@dataclass(frozen=True, slots=True)
class ResourcePolicy:
    """A resource by its own ARN, whose it is, and its policy's JSON text where it has one."""

    arn: str
    account: str
    document: str | None
    required: bool = False


class ResourcePolicies:
    """`ready` returns once moto is loaded and its journal replayed; it is awaited before every lookup."""

    def __init__(self, ready: Callable[[], Awaitable[object]]) -> None:
        self._ready = ready

    async def of(self, arn: str) -> ResourcePolicy | None:
        """None where there is no such resource, or its kind has no policies here."""
        try:
            named = Arn.parse(arn)
        except ValueError:
            return None
        find = _FINDERS.get(named.service)
        if find is None or "*" in arn:
            return None
        await self._ready()
        return find(named)


def _bucket(named: Arn) -> ResourcePolicy | None:
    from moto.s3.models import s3_backends

    name = named.resource.partition("/")[0]
    for account in list(s3_backends):
        bucket = s3_backends[account][DEFAULT_PARTITION].buckets.get(name)
        if bucket is not None:
            policy = bucket.policy
            return ResourcePolicy(str(named), account, policy.decode() if policy else None)
    return None


def _queue(named: Arn) -> ResourcePolicy | None:
    from moto.sqs.models import sqs_backends

    backend = _backend(sqs_backends, named)
    queue = backend.queues.get(named.resource) if backend is not None else None
    return ResourcePolicy(str(named), named.account, queue.policy or None) if queue is not None else None


def _topic(named: Arn) -> ResourcePolicy | None:
    from moto.sns.models import sns_backends

    backend = _backend(sns_backends, named)
    topic = backend.topics.get(str(named)) if backend is not None else None
    return ResourcePolicy(str(named), named.account, topic.policy) if topic is not None else None


def _key(named: Arn) -> ResourcePolicy | None:
    """By id or alias; a key is used only with leave of its own policy."""
    from moto.kms.models import kms_backends

    backend = _backend(kms_backends, named)
    if backend is None:
        return None
    for key in backend.keys.values():
        if named.resource in (f"key/{key.id}", *key.aliases):
            return ResourcePolicy(key.arn, named.account, key.policy, required=True)
    return None


def _backend(backends: Any, named: Arn) -> Any:
    """The service's records in the ARN's account and Region; None where nothing was ever made there."""
    if named.account not in list(backends):
        return None
    regions = backends[named.account]
    return regions[named.region] if named.region in list(regions.keys()) else None


_FINDERS: dict[str, Callable[[Arn], ResourcePolicy | None]] = {
    "s3": _bucket,
    "sqs": _queue,
    "sns": _topic,
    "kms": _key,
}

"""SNS beside the journal: deliveries over HTTP leave moto's thread, and happen once, not at every replay."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from lambay.neighbours import moment
from lambay.neighbours.adapt import adapter

log = logging.getLogger(__name__)

# SNS waits 15 seconds for an endpoint; see the SNS Developer Guide, "Message delivery retries".
_TIMEOUT_SECONDS = 15

_deliveries = ThreadPoolExecutor(4, "sns delivery")


class _Deliveries:
    """Stands for the `requests` module in moto's SNS."""

    @staticmethod
    def post(endpoint: str, **given: Any) -> None:
        at = moment.current()
        if at is None or not at.replay:
            _deliveries.submit(_deliver, endpoint, given)


def _deliver(endpoint: str, given: dict[str, Any]) -> None:
    import requests

    try:
        requests.post(endpoint, timeout=_TIMEOUT_SECONDS, **given).raise_for_status()
    except requests.RequestException as error:
        log.warning("a notification to %s could not be delivered: %s", endpoint, error)


@adapter("moto.sns.models")
def _delivered_once(module: Any) -> None:
    module.requests = _Deliveries
    # moto keeps a subscription's signing key in a cache of the process; here it is part of the subscription.
    make = module.Subscription.private_key.__wrapped__

    def private_key(subscription: Any) -> Any:
        key = vars(subscription).get("_signing_key")
        if key is None:
            key = subscription._signing_key = make(subscription)
        return key

    module.Subscription.private_key = private_key

"""What the neighbours would invoke functions with: notifications of S3 and SNS, and targets of EventBridge rules.

moto knows no function of ours. Its calls are caught while a request runs and handed on once what the request
changed is durable; a replay of the journal hands on nothing.
"""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote_plus

from lambay.neighbours import moment, traces
from lambay.neighbours.adapt import adapter


@dataclass(frozen=True, slots=True)
class Invocation:
    """An event for a function. `principal` is the service that sends it, `source_arn` its topic, rule or bucket.

    `trace_id` is the trace header of the request that caused it, empty for none.
    """

    function_arn: str
    event: dict[str, Any]
    principal: str
    source_arn: str
    source_account: str
    trace_id: str = ""


_local = threading.local()


def take() -> tuple[Invocation, ...]:
    """What the request that this thread ran last would invoke, once."""
    caught: list[Invocation] = getattr(_local, "caught", [])
    _local.caught = []
    return tuple(caught)


def _catch(invocation: Invocation) -> None:
    if not hasattr(_local, "caught"):
        _local.caught = []
    _local.caught.append(dataclasses.replace(invocation, trace_id=traces.current()))


@adapter("moto.s3.notifications")
def _from_buckets(module: Any) -> None:
    # "Event message structure" in the S3 User Guide. moto's record ends at the object's ETag, and its key has
    # the slashes encoded too: code that takes it as it is then asks for another object.
    compose = module._get_s3_event
    module.quote_plus = lambda name: quote_plus(name, safe="/-_.*")

    def composed(event_name: str, bucket: Any, key: Any, notification_id: str) -> dict[str, Any]:
        event: dict[str, Any] = compose(event_name, bucket, key, notification_id)
        principal = {"principalId": f"AWS:{bucket.account_id}"}
        for record in event["Records"]:
            record["userIdentity"] = principal
            record["requestParameters"] = {"sourceIPAddress": "127.0.0.1"}
            record["responseElements"] = {}
            record["s3"]["bucket"]["ownerIdentity"] = {"principalId": bucket.account_id}
            stored = record["s3"]["object"]
            if record["eventName"].startswith("ObjectRemoved:"):
                del stored["size"], stored["eTag"]
            if bucket.is_versioned and key.version_id is not None:
                stored["versionId"] = key.version_id
            stored["sequencer"] = _sequencer()
        return event

    def invoke(account_id: str, event_body: Any, fn_arn: str, region_name: str) -> None:
        buckets = [record["s3"]["bucket"]["arn"] for record in event_body.get("Records", [])]
        source = buckets[0] if buckets else f"arn:aws:s3:::{event_body.get('Bucket', '')}"
        _catch(Invocation(fn_arn, event_body, "s3.amazonaws.com", source, account_id))

    module._get_s3_event = composed
    module._invoke_awslambda = invoke


def _sequencer() -> str:
    """Of two changes of one object, the later one's is greater, as text of the same length."""
    at = moment.current()
    return f"{int((time.time() if at is None else at.time) * 1_000_000_000):018X}"


@adapter("moto.sns.models")
def _from_topics(module: Any) -> None:
    publish = module.Subscription.publish

    def publish_or_catch(
        self: Any,
        message: str,
        message_id: str,
        subject: str | None = None,
        message_attributes: dict[str, Any] | None = None,
        group_id: str | None = None,
        deduplication_id: str | None = None,
        message_structure: str | None = None,
    ) -> None:
        if self.protocol != "lambda":
            publish(
                self,
                message,
                message_id,
                subject=subject,
                message_attributes=message_attributes,
                group_id=group_id,
                deduplication_id=deduplication_id,
                message_structure=message_structure,
            )
            return
        matcher = self._filter_policy_matcher
        if matcher is not None and not matcher.matches(message_attributes, message):
            return
        if message_structure == "json":
            message = self._parse_message_structure(message, self.protocol)
        notification = _notification(self, message, message_id, subject, message_attributes or {})
        record = {
            "EventSource": "aws:sns",
            "EventVersion": "1.0",
            "EventSubscriptionArn": self.arn,
            "Sns": notification,
        }
        _catch(
            Invocation(
                self.endpoint, {"Records": [record]}, "sns.amazonaws.com", self.topic.arn, self.account_id
            )
        )

    module.Subscription.publish = publish_or_catch


def _notification(
    subscription: Any, message: str, message_id: str, subject: str | None, attributes: dict[str, Any]
) -> dict[str, Any]:
    region = subscription.topic.arn.split(":")[3]
    host = f"https://sns.{region}.amazonaws.com"
    return {
        "Type": "Notification",
        "MessageId": message_id,
        "TopicArn": subscription.topic.arn,
        "Subject": subject,
        "Message": message,
        "Timestamp": _iso(_present(), "milliseconds"),
        "SignatureVersion": "1",
        "Signature": "",
        "SigningCertUrl": "",
        "UnsubscribeUrl": f"{host}/?Action=Unsubscribe&SubscriptionArn={subscription.arn}",
        "MessageAttributes": {
            name: {"Type": given.get("Type", "String"), "Value": given.get("Value")}
            for name, given in attributes.items()
        },
    }


def _present() -> float:
    at = moment.current()
    return time.time() if at is None else at.time


def _iso(seconds: float, precision: str) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec=precision).replace("+00:00", "Z")


@adapter("moto.events.models")
def _from_rules(module: Any) -> None:
    send = module.Rule.send_to_targets

    def send_or_catch(self: Any, original_event: Any, transform_input: bool = True) -> None:
        targets = self.targets
        ours = [target for target in targets if target["Arn"].split(":")[2] == "lambda"]
        self.targets = [target for target in targets if target not in ours]
        try:
            send(self, original_event, transform_input)
        finally:
            self.targets = targets
        if self.state == "DISABLED" or not self.event_pattern.matches_event(original_event):
            return
        whole = {name: part for name, part in dict(original_event).items() if name != "ingestion-time"}
        if isinstance(whole.get("time"), int | float):
            whole["time"] = _iso(whole["time"], "seconds")
        for target in ours:
            event = _input(module, target, whole, original_event) if transform_input else whole
            _catch(Invocation(target["Arn"], event, "events.amazonaws.com", self.arn, self.account_id))

    module.Rule.send_to_targets = send_or_catch


def _input(module: Any, target: dict[str, Any], event: dict[str, Any], original: Any) -> Any:
    """What a rule's target gets of an event: a constant, a part, a template, or the whole.

    Templates are moto's, which knows the event in its own form.
    """
    if target.get("Input"):
        return json.loads(target["Input"])
    if target.get("InputPath"):
        part: Any = event
        for step in target["InputPath"].removeprefix("$").strip(".").split("."):
            part = part.get(step) if isinstance(part, dict) and step else part
        return part
    template = target.get("InputTransformer") or {}
    if not template:
        return event
    return module.EventTemplateParser.parse(
        input_template=template.get("InputTemplate"),
        input_paths_map=template.get("InputPathsMap", {}),
        event=original,
    )

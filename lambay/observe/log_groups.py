"""The operations on log groups: create, describe, retention, tags, deletion protection."""

from __future__ import annotations

import itertools
import re
import sqlite3
from collections.abc import Callable, Iterator

from lambay.aws import AWSError, Call
from lambay.observe import log_schema as schema
from lambay.observe.log_errors import group_exists, group_not_found, invalid, required_group
from lambay.observe.log_records import Group, GroupKey
from lambay.observe.log_requests import (
    PAGE_ITEMS,
    Input,
    LogsOperations,
    Output,
    continuation,
    continued,
    identified_group,
    named_group,
)

RETENTION_DAYS = (
    *(1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731),
    *(1096, 1827, 2192, 2557, 2922, 3288, 3653),
)
MAX_TAGS = 50


class LogGroups(LogsOperations):
    """Log groups. A KMS key is kept with its group and reported; the events are not encrypted with it."""

    async def create_log_group(self, call: Call, input: Input) -> Output:
        key = GroupKey(call.account, call.region, input["logGroupName"])
        if key.name.lower().startswith("aws/"):
            raise invalid("Log groups starting with AWS/ are reserved for AWS.")
        tags = dict(input.get("tags", {}))
        _check_tags(tags)

        def create(connection: sqlite3.Connection) -> None:
            created = schema.insert_group(
                connection,
                key,
                self._store.now_ms(),
                log_class=input.get("logGroupClass", "STANDARD"),
                kms_key_id=input.get("kmsKeyId"),
                protected=input.get("deletionProtectionEnabled", False),
                tags=tags,
            )
            if created is None:
                raise group_exists()

        await self._store.change(create)
        return {}

    async def delete_log_group(self, call: Call, input: Input) -> Output:
        key = GroupKey(call.account, call.region, input["logGroupName"])

        def delete(connection: sqlite3.Connection) -> None:
            group = required_group(connection, key)
            if group.protected:
                raise AWSError(
                    "ValidationException",
                    f"The log group {key.name} has deletion protection enabled and cannot be deleted.",
                    status=400,
                )
            schema.doom_group(connection, group)

        await self._store.remove(delete)
        await self._filters_gone()
        return {}

    async def _filters_gone(self) -> None:
        """A group has gone with its filters."""

    async def describe_log_groups(self, call: Call, input: Input) -> Output:
        prefix, pattern = input.get("logGroupNamePrefix"), input.get("logGroupNamePattern")
        if prefix is not None and pattern is not None:
            raise invalid("LogGroup name prefix and LogGroup name pattern are mutually exclusive parameters.")
        identifiers = input.get("logGroupIdentifiers")
        if identifiers is not None:
            if {"logGroupNamePrefix", "logGroupNamePattern", "logGroupClass"} & input.keys():
                raise invalid("logGroupIdentifiers can't be combined with other filters.")
            names = {identified_group(call, identifier).name for identifier in identifiers}
        classes = _classes(input.get("logGroupClass"))

        def wanted(group: Group) -> bool:
            return (
                (pattern is None or pattern in group.key.name)
                and (identifiers is None or group.key.name in names)
                and (classes is None or group.log_class in classes)
            )

        groups, token = await self._page(call, input, prefix or "", wanted, input.get("limit", PAGE_ITEMS))
        described = [_described(group) for group in groups]
        if pattern is not None:
            kept = ("arn", "creationTime", "logGroupName", "logGroupArn")
            described = [{name: group[name] for name in kept} for group in described]
        return {"logGroups": described, **token}

    async def list_log_groups(self, call: Call, input: Input) -> Output:
        for unsupported in ("dataSources", "fieldIndexNames"):
            if input.get(unsupported):
                raise invalid(f"{unsupported}: log groups here have none to filter by")
        pattern = input.get("logGroupNamePattern")
        names = re.compile(pattern.replace(".", r"\.")) if pattern else None
        log_class = input.get("logGroupClass")
        filters = input.get("logGroupTags", ())

        def wanted(group: Group) -> bool:
            return (
                (names is None or names.search(group.key.name) is not None)
                and (log_class is None or group.log_class == log_class)
                and all(
                    each["key"] in group.tags
                    and (not each.get("values") or group.tags[each["key"]] in each["values"])
                    for each in filters
                )
            )

        groups, token = await self._page(call, input, "", wanted, input.get("limit", PAGE_ITEMS))
        summaries = [
            {
                "logGroupName": group.key.name,
                "logGroupArn": group.key.arn,
                "logGroupClass": group.log_class,
            }
            for group in groups
        ]
        return {"logGroups": summaries, **token}

    async def _page(
        self, call: Call, input: Input, prefix: str, wanted: Callable[[Group], bool], limit: int
    ) -> tuple[list[Group], Output]:
        place = continued(input.get("nextToken"), str)
        after = place[0] if place else ""

        def read(connection: sqlite3.Connection) -> list[Group]:
            groups: Iterator[Group] = schema.groups_of(connection, call.account, call.region, prefix, after)
            return list(itertools.islice(filter(wanted, groups), limit + 1))

        groups = await self._store.read(read)
        if len(groups) <= limit:
            return groups, {}
        return groups[:limit], {"nextToken": continuation(groups[limit - 1].key.name)}

    async def put_retention_policy(self, call: Call, input: Input) -> Output:
        days = input["retentionInDays"]
        if days not in RETENTION_DAYS:
            raise invalid(
                f"1 validation error detected: Value '{days}' at 'retentionInDays' failed to satisfy "
                f"constraint: Member must satisfy enum value set: {list(RETENTION_DAYS)}"
            )
        key = GroupKey(call.account, call.region, input["logGroupName"])
        await self._change(key, lambda connection, group: schema.set_retention(connection, group, days))
        self._store.retention_changed()
        return {}

    async def delete_retention_policy(self, call: Call, input: Input) -> Output:
        key = GroupKey(call.account, call.region, input["logGroupName"])
        await self._change(key, lambda connection, group: schema.set_retention(connection, group, None))
        return {}

    async def put_log_group_deletion_protection(self, call: Call, input: Input) -> Output:
        protected = input["deletionProtectionEnabled"]
        key = named_group(call, input)
        await self._change(key, lambda connection, group: schema.set_protection(connection, group, protected))
        return {}

    async def associate_kms_key(self, call: Call, input: Input) -> Output:
        """Of a log group; the events are not encrypted with it."""
        key = input["kmsKeyId"]
        group = _keyed_group(call, input)
        await self._change(group, lambda connection, group: schema.set_kms_key(connection, group, key))
        return {}

    async def disassociate_kms_key(self, call: Call, input: Input) -> Output:
        group = _keyed_group(call, input)
        await self._change(group, lambda connection, group: schema.set_kms_key(connection, group, None))
        return {}

    async def tag_resource(self, call: Call, input: Input) -> Output:
        await self._tag(_tagged_group(call, input), dict(input["tags"]))
        return {}

    async def tag_log_group(self, call: Call, input: Input) -> Output:
        await self._tag(named_group(call, input), dict(input["tags"]))
        return {}

    async def untag_resource(self, call: Call, input: Input) -> Output:
        await self._untag(_tagged_group(call, input), set(input["tagKeys"]))
        return {}

    async def untag_log_group(self, call: Call, input: Input) -> Output:
        await self._untag(named_group(call, input), set(input["tags"]))
        return {}

    async def list_tags_for_resource(self, call: Call, input: Input) -> Output:
        return await self._tags(_tagged_group(call, input))

    async def list_tags_log_group(self, call: Call, input: Input) -> Output:
        return await self._tags(named_group(call, input))

    async def _tag(self, key: GroupKey, tags: dict[str, str]) -> None:
        def tag(connection: sqlite3.Connection, group: Group) -> None:
            combined = group.tags | tags
            _check_tags(combined)
            schema.set_tags(connection, group, combined)

        await self._change(key, tag)

    async def _untag(self, key: GroupKey, names: set[str]) -> None:
        def untag(connection: sqlite3.Connection, group: Group) -> None:
            kept = {name: value for name, value in group.tags.items() if name not in names}
            schema.set_tags(connection, group, kept)

        await self._change(key, untag)

    async def _tags(self, key: GroupKey) -> Output:
        group = await self._store.read(lambda connection: required_group(connection, key))
        return {"tags": group.tags}

    async def _change(self, key: GroupKey, change: Callable[[sqlite3.Connection, Group], None]) -> None:
        await self._store.change(lambda connection: change(connection, required_group(connection, key)))


def _keyed_group(call: Call, input: Input) -> GroupKey:
    name, identifier = input.get("logGroupName"), input.get("resourceIdentifier")
    if name is not None and identifier is None:
        return GroupKey(call.account, call.region, name)
    if identifier is None or name is not None:
        raise invalid("Exactly one of logGroupName and resourceIdentifier must be given.")
    if ":log-group:" not in identifier:
        raise invalid(f"resourceIdentifier: {identifier}: keys are kept for log groups only")
    return identified_group(call, identifier)


def _tagged_group(call: Call, input: Input) -> GroupKey:
    resource = input["resourceArn"]
    if not resource.startswith("arn:"):
        raise invalid(f"resourceArn: {resource} is not an ARN")
    if ":log-group:" not in resource:
        raise group_not_found()
    return identified_group(call, resource)


def _check_tags(tags: dict[str, str]) -> None:
    if len(tags) > MAX_TAGS:
        raise AWSError(
            "TooManyTagsException",
            f"A resource can have no more than {MAX_TAGS} tags; {len(tags)} were given.",
            status=400,
        )
    for name in tags:
        if name.lower().startswith("aws:"):
            raise invalid(f"Tag keys starting with aws: are reserved; {name} was given")


def _classes(log_class: str | None) -> set[str] | None:
    if log_class is None:
        return None
    return (
        {"INFREQUENT_ACCESS", "ESSENTIALS"}
        if log_class in ("INFREQUENT_ACCESS", "ESSENTIALS")
        else {log_class}
    )


def _described(group: Group) -> Output:
    described: Output = {
        "logGroupName": group.key.name,
        "creationTime": group.created_ms,
        "metricFilterCount": group.metric_filters,
        "arn": f"{group.key.arn}:*",
        "storedBytes": group.stored_bytes,
        "logGroupClass": group.log_class,
        "logGroupArn": group.key.arn,
        "deletionProtectionEnabled": group.protected,
    }
    if group.retention_days is not None:
        described["retentionInDays"] = group.retention_days
    if group.kms_key_id is not None:
        described["kmsKeyId"] = group.kms_key_id
    return described

"""The errors of the `logs` API, and the lookups that raise them."""

from __future__ import annotations

import sqlite3

from lambay.aws import AWSError
from lambay.observe import log_schema as schema
from lambay.observe.log_records import Group, GroupKey, Stream


def invalid(message: str) -> AWSError:
    return AWSError("InvalidParameterException", message, status=400)


def group_not_found() -> AWSError:
    return AWSError("ResourceNotFoundException", "The specified log group does not exist.", status=400)


def stream_not_found() -> AWSError:
    return AWSError("ResourceNotFoundException", "The specified log stream does not exist.", status=400)


def group_exists() -> AWSError:
    return AWSError("ResourceAlreadyExistsException", "The specified log group already exists", status=400)


def stream_exists() -> AWSError:
    return AWSError("ResourceAlreadyExistsException", "The specified log stream already exists", status=400)


def required_group(connection: sqlite3.Connection, key: GroupKey) -> Group:
    """Raises ResourceNotFoundException where there is no such group."""
    group = schema.find_group(connection, key)
    if group is None:
        raise group_not_found()
    return group


def required_stream(connection: sqlite3.Connection, group: Group, name: str) -> Stream:
    """Raises ResourceNotFoundException where the group has no such stream."""
    stream = schema.find_stream(connection, group.id, name)
    if stream is None:
        raise stream_not_found()
    return stream

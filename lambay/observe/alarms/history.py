"""What happened to alarms, for thirty days."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lambay.observe.alarms.messages import stamp
from lambay.observe.alarms.records import Alarm, AlarmChange
from lambay.observe.metrics.store import MetricStore


@dataclass(frozen=True, slots=True)
class Item:
    """`type` is the alarm's, `item` the history item's; `at` is seconds since the epoch."""

    id: int
    alarm: str
    type: str
    item: str
    at: float
    summary: str
    body: str


class History:
    def __init__(self, store: MetricStore) -> None:
        self._store = store

    async def configured(self, alarm: Alarm, what: str, at: float) -> None:
        """`what` is Created, Updated or Deleted."""
        types = {"Created": "Create", "Updated": "Update", "Deleted": "Delete"}
        body: dict[str, Any] = {"type": types[what], "version": "1.0"}
        told = _described(alarm)
        if what == "Created":
            body["createdAlarm"] = told
        elif what == "Updated":
            body["updatedAlarm"] = told
        else:
            body["deletedAlarm"] = told
        summary = f'Alarm "{alarm.name}" {what.lower()}'
        await self._add(alarm, "ConfigurationUpdate", at, summary, body)

    async def changed(self, change: AlarmChange) -> None:
        body = {
            "version": "1.0",
            "oldState": _state(change.before),
            "newState": _state(change.after),
        }
        summary = f"Alarm updated from {change.before.state} to {change.after.state}"
        await self._add(change.after, "StateUpdate", change.at, summary, body)

    async def acted(self, change: AlarmChange, action: str, error: str | None, at: float) -> None:
        done = "Successfully executed" if error is None else "Failed to execute"
        body: dict[str, Any] = {
            "actionState": "Succeeded" if error is None else "Failed",
            "notificationResource": action,
            "stateUpdateTimestamp": int(change.at * 1000),
        }
        if error is not None:
            body["error"] = error[:1000]
        await self._add(change.after, "Action", at, f"{done} action {action}", body)

    async def _add(self, alarm: Alarm, item: str, at: float, summary: str, body: Any) -> None:
        row = (
            alarm.account,
            alarm.region,
            alarm.name,
            alarm.type,
            item,
            at,
            summary[:255],
            json.dumps(body)[:4095],
        )
        await self._store.change(
            lambda connection: (
                connection.execute(
                    "INSERT INTO alarm_history (account, region, alarm, type, item, at, summary, body) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    row,
                ).rowcount
            )
        )

    async def items(
        self,
        account: str,
        region: str,
        *,
        alarm: str | None,
        types: Sequence[str],
        item: str | None,
        start: float,
        end: float,
        descending: bool,
        after: int | None,
        limit: int,
    ) -> list[Item]:
        """In the order in which they happened, or the reverse, behind the item `after`."""
        query = (
            "SELECT id, alarm, type, item, at, summary, body FROM alarm_history "
            "WHERE account = ? AND region = ? AND at >= ? AND at <= ? AND type IN (SELECT value FROM json_each(?))"
        )
        given: list[object] = [account, region, start, end, json.dumps(types)]
        if alarm is not None:
            query += " AND alarm = ?"
            given.append(alarm)
        if item is not None:
            query += " AND item = ?"
            given.append(item)
        if after is not None:
            query += f" AND id {'<' if descending else '>'} ?"
            given.append(after)
        query += f" ORDER BY id {'DESC' if descending else 'ASC'} LIMIT ?"

        def read(connection: sqlite3.Connection) -> list[Item]:
            return [Item(*row) for row in connection.execute(query, (*given, limit))]

        return await self._store.read(read)


def _state(alarm: Alarm) -> dict[str, Any]:
    state: dict[str, Any] = {"stateValue": alarm.state, "stateReason": alarm.reason}
    if alarm.reason_data:
        state["stateReasonData"] = json.loads(alarm.reason_data) if _is_json(alarm.reason_data) else {}
    return state


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _described(alarm: Alarm) -> dict[str, Any]:
    return {
        "alarmName": alarm.name,
        "alarmArn": alarm.arn,
        "actionsEnabled": alarm.actions_enabled,
        "stateValue": alarm.state,
        "stateUpdatedTimestamp": stamp(alarm.updated),
        **({"alarmRule": alarm.rule} if alarm.rule is not None else {}),
    }

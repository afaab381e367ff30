"""Records are asked for once between two changes, and never told after one."""

from __future__ import annotations

import asyncio
from typing import Any

from lambay.identity import RememberedRecords

from .conftest import Attached, Key, Records, RoleRecord


class Counted(Records):
    """Counts the questions; `on_question` happens in the middle of one."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        self.on_question: Any = None

    async def role(self, role_arn: str) -> RoleRecord | None:
        self.asked += 1
        found = await super().role(role_arn)
        if self.on_question is not None:
            self.on_question()
        await asyncio.sleep(0)
        return found


async def test_what_is_there_is_asked_for_once() -> None:
    records = Counted()
    role = records.add_role("r")
    remembered = RememberedRecords(records)
    assert [await remembered.role(role.arn) for _ in range(3)] == [role] * 3
    assert records.asked == 1
    records.roles[role.arn] = changed = RoleRecord("r", "{}")
    remembered.changed()
    assert await remembered.role(role.arn) is changed


async def test_what_is_not_there_is_asked_for_again() -> None:
    records = Counted()
    remembered = RememberedRecords(records)
    assert await remembered.role("arn:aws:iam::123456789012:role/r") is None
    role = records.add_role("r")
    assert await remembered.role(role.arn) is role


async def test_a_change_during_a_question_outdates_its_answer() -> None:
    records = Counted()
    old = records.add_role("r")
    remembered = RememberedRecords(records)

    def change() -> None:
        records.roles[old.arn] = RoleRecord("r", "{}")
        records.on_question = None
        remembered.changed()

    records.on_question = change
    assert await remembered.role(old.arn) is old
    assert await remembered.role(old.arn) is records.roles[old.arn]


async def test_kinds_of_records_do_not_mix() -> None:
    records = Records(keys={"a": Key("a", "secret")}, attached={"a": Attached()}, managed={"a": "{}"})
    remembered = RememberedRecords(records)
    for _ in range(2):
        assert await remembered.access_key("a") == Key("a", "secret")
        assert await remembered.attachments("a") == Attached()
        assert await remembered.managed_policy("a", "123456789012") == ("a", "{}")
        assert await remembered.role("a") is None

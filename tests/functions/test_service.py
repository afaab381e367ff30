"""The service as a whole."""

from __future__ import annotations

import inspect
from collections import Counter

from botocore import xform_name
from botocore.session import get_session

from lambay.functions import Functions
from lambay.functions.room import Operations

from .conftest import World


def test_no_two_families_define_the_same_name() -> None:
    """They are one object: a helper of one would replace another's unseen."""
    families = [family for family in Functions.__mro__ if issubclass(family, Operations)]
    defined = Counter(name for family in families for name in vars(family) if not name.startswith("__"))
    defined.subtract({"service_name": defined["service_name"] - 1})
    assert [name for name, times in defined.items() if times > 1] == []


def test_every_operation_is_one_of_the_models() -> None:
    operations = {xform_name(name) for name in get_session().get_service_model("lambda").operation_names}
    own = {
        "allocated_concurrency",
        "start",
        "stop",
        "reset",
        "handle_code",
        "summary",
        "resource_policy",
        "handle_url",
        "deliver",
        "rules_changed",
        "mounts_changed",
        "provision",
        "stream_changed",
    }
    methods = {name for name, _ in inspect.getmembers(Functions, callable) if not name.startswith("_")}
    assert methods - operations == own


async def test_the_summary_counts(world: World) -> None:
    await world.create(Publish=True)
    assert world.functions.summary() == {
        "functions": 1,
        "versions": 1,
        "aliases": 0,
        "layers": 0,
        "running": 0,
        "queued_events": 0,
        "event_source_mappings": 0,
        "function_urls": 0,
        "scheduled_rules": 0,
    }


async def test_a_reset_leaves_nothing(world: World) -> None:
    await world.create()
    await world.store.clear()
    await world.functions.reset()
    assert world.functions.summary()["functions"] == 0
    assert [path.name for path in (world.settings.data_dir / "code").iterdir()] == [".boot"]
    assert (await world("ListFunctions"))["Functions"] == []
    assert (await world.create())["State"] == "Active"

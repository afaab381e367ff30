"""Marker and MaxItems as Lambda pages its lists."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from lambay.functions.errors import invalid

T = TypeVar("T")

_LARGEST_PAGE = 50
# A marker is never empty, whatever the key.
_PREFIX = "after:"


def page(
    items: Sequence[T], input: Mapping[str, Any], *, key: Callable[[T], str]
) -> tuple[list[T], str | None]:
    """The items after `input`'s Marker, at most MaxItems (50 at most), and the next marker.

    The marker names the last item given, so that a page holds its place while others are made and deleted.
    Raises InvalidParameterValueException for a marker that is not one of ours.
    """
    start = 0
    if marker := input.get("Marker"):
        try:
            decoded = base64.b64decode(marker.encode(), altchars=b"-_", validate=True).decode()
            if not decoded.startswith(_PREFIX):
                raise ValueError(marker)
            last = decoded.removeprefix(_PREFIX)
        except ValueError:
            raise invalid(f"Marker: {marker!r} is not a marker that a previous call returned.") from None
        keys = [key(item) for item in items]
        start = (
            keys.index(last) + 1
            if last in keys
            else next((i for i, k in enumerate(keys) if k > last), len(keys))
        )
    most = min(input.get("MaxItems") or _LARGEST_PAGE, _LARGEST_PAGE)
    taken = list(items[start : start + most])
    if start + most >= len(items) or not taken:
        return taken, None
    return taken, base64.urlsafe_b64encode(f"{_PREFIX}{key(taken[-1])}".encode()).decode()


def paged(member: str, shown: list[Any], marker: str | None) -> dict[str, Any]:
    """The output of a list operation."""
    return {member: shown, "NextMarker": marker} if marker else {member: shown}

"""Cutting lists into pages with opaque markers that survive changes of the list."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import TypeVar

from lambay.efs.errors import bad_request

T = TypeVar("T")


def page_of(
    items: Sequence[T], identity: Callable[[T], str], marker: str | None, size: int, *, most: int = 100
) -> tuple[list[T], str | None]:
    """The page after `marker` and the marker of the next one, None at the end.

    Pages are in order of `identity`, and a marker is the last identity seen, so that what is added or removed
    meanwhile neither repeats nor hides another item; what fits one page keeps its order. Raises BadRequest
    for a marker that is not ours.
    """
    size = min(size, most)
    if marker is None and len(items) <= size:
        return list(items), None
    ordered = sorted(items, key=identity)
    if marker is not None:
        last = _decode(marker)
        ordered = [item for item in ordered if identity(item) > last]
    page = ordered[:size]
    if len(page) == len(ordered):
        return page, None
    return page, base64.urlsafe_b64encode(identity(page[-1]).encode()).decode()


def _decode(marker: str) -> str:
    try:
        return base64.b64decode(marker, altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise bad_request(f"The pagination token {marker!r} is not valid.") from None

"""Pages of this service's lists: at most 100 items, tokens refused with BadRequest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from lambay.efs.errors import bad_request
from lambay.pages import paginate

T = TypeVar("T")

MOST = 100


def page_of(
    items: Sequence[T], identity: Callable[[T], str], marker: str | None, size: int
) -> tuple[list[T], str | None]:
    """The page after `marker` and the marker of the next one, None at the end.

    What fits one page keeps its order; the others are in order of `identity`. Raises BadRequest.
    """
    size = min(size, MOST)
    if marker is None and len(items) <= size:
        return list(items), None
    page = paginate(items, key=identity, token=marker, limit=size, invalid=bad_request)
    return page.items, page.next_token

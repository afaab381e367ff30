"""Lists cut into pages with opaque tokens.

A token holds the key of the last item given, so what is made or deleted between two pages neither repeats nor
hides another item. It is bound to a scope, so that one list's token is refused by another.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec

from lambay.aws import AWSError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """`next_token` is None on the last page."""

    items: list[T]
    next_token: str | None


def paginate(
    items: Iterable[T],
    *,
    key: Callable[[T], Any],
    token: str | None,
    limit: int,
    invalid: Callable[[str], AWSError],
    scope: str = "",
    descending: bool = False,
) -> Page[T]:
    """The page after `token`, ordered by `key`.

    `key` gives an item's place in the order: a str or int unique among the items, or a tuple of them.
    `invalid` makes the service's own error from a text that names the trouble, for tokens that are not of
    this list. `scope` names the list (`ListAliases:my-function`). Raises what `invalid` makes; ValueError
    where `limit` is below 1.
    """
    if limit < 1:
        raise ValueError(f"limit: {limit} is below 1")
    ordered = sorted(items, key=key, reverse=descending)
    if token is not None:
        last = _decode(token, scope, invalid)
        try:
            ordered = [item for item in ordered if (key(item) < last if descending else key(item) > last)]
        except TypeError:
            raise invalid(_NOT_OURS) from None
    page = ordered[:limit]
    if len(page) == len(ordered):
        return Page(page, None)
    return Page(page, _encode(scope, key(page[-1])))


_NOT_OURS = "The pagination token is not one that this operation returned."


def _encode(scope: str, key: Any) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode([scope, key])).decode()


def _decode(token: str, scope: str, invalid: Callable[[str], AWSError]) -> Any:
    try:
        decoded = msgspec.json.decode(base64.b64decode(token, altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, msgspec.DecodeError):
        raise invalid(_NOT_OURS) from None
    if not isinstance(decoded, list) or len(decoded) != 2 or decoded[0] != scope:
        raise invalid(_NOT_OURS)
    key = decoded[1]
    return tuple(key) if isinstance(key, list) else key

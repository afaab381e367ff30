"""Pagination."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambay.aws import AWSError
from lambay.pages import Page, paginate


def page(
    items: list[str], token: str | None, limit: int, scope: str = "names", descending: bool = False
) -> Page[str]:
    return paginate(
        items,
        key=lambda item: item,
        token=token,
        limit=limit,
        invalid=lambda text: AWSError("InvalidNextToken", text),
        scope=scope,
        descending=descending,
    )


@given(st.sets(st.text(), max_size=30), st.integers(1, 10), st.booleans())
def test_the_pages_together_are_the_list(names: set[str], limit: int, descending: bool) -> None:
    seen: list[str] = []
    token = None
    while True:
        found = page(list(names), token, limit, descending=descending)
        assert len(found.items) <= limit
        seen += found.items
        token = found.next_token
        if token is None:
            break
    assert seen == sorted(names, reverse=descending)


def test_what_changes_between_two_pages_neither_repeats_nor_hides_another() -> None:
    first = page(["a", "b", "d", "e"], None, 2)
    assert first.items == ["a", "b"]
    rest = page(["a", "aa", "c", "d", "e"], first.next_token, 10)
    assert rest == Page(["c", "d", "e"], None)


def test_the_last_page_has_no_token() -> None:
    assert page(["a", "b"], None, 2) == Page(["a", "b"], None)


@pytest.mark.parametrize(
    "token", ["", "nonsense", "!!!", "WyJvdGhlciIsImEiXQ==", "WyJuYW1lcyIsM10=", "W10=", "é"]
)
def test_a_token_of_something_else_is_refused(token: str) -> None:
    with pytest.raises(AWSError) as raised:
        page(["a", "b"], token, 1)
    assert raised.value.code == "InvalidNextToken"


def test_another_lists_token_is_refused() -> None:
    token = page(["a", "b"], None, 1, scope="theirs").next_token
    with pytest.raises(AWSError, match="not one that this operation returned"):
        page(["a", "b"], token, 1)


def test_keys_may_be_tuples() -> None:
    rows = [(3, "a"), (1, "b"), (1, "a")]
    first = paginate(rows, key=lambda row: row, token=None, limit=2, invalid=lambda text: AWSError("X", text))
    rest = paginate(
        rows, key=lambda row: row, token=first.next_token, limit=2, invalid=lambda text: AWSError("X", text)
    )
    assert (first.items, rest.items) == ([(1, "a"), (1, "b")], [(3, "a")])


def test_a_limit_below_one_is_the_callers_mistake() -> None:
    with pytest.raises(ValueError, match="limit: 0"):
        page(["a"], None, 0)

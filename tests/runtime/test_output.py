"""What a sandbox writes, cut into events."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambay.runtime.output import Output


def record(text: str, kind: int = 0xA55A0003) -> bytes:
    body = text.encode()
    return kind.to_bytes(4, "big") + len(body).to_bytes(4, "big") + (7).to_bytes(8, "big") + body


def events(*chunks: bytes) -> list[str]:
    """All events of what is written in these pieces."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    output = Output(reader)
    found: list[str] = []
    for chunk in chunks:
        os.write(writer, chunk)
        found += output.read()[0]
    os.close(writer)
    found += output.read()[0] + output.rest()
    os.close(reader)
    return found


def test_lines_and_records_in_their_order() -> None:
    assert events(b"one\n" + record("two\nlines\n") + b"three\nfour") == [
        "one\n",
        "two\nlines\n",
        "three\n",
        "four",
    ]


def test_a_record_after_a_line_without_end() -> None:
    assert events(b"progress 50%" + record("done\n")) == ["progress 50%", "done\n"]


@given(
    st.lists(st.one_of(st.text("ab\n", max_size=8), st.tuples(st.text("xé\n", max_size=8))), max_size=6),
    st.lists(st.integers(1, 40), max_size=6),
)
def test_the_pieces_in_which_it_comes_do_not_matter(parts: list[str | tuple[str]], cuts: list[int]) -> None:
    whole = b"".join(record(part[0]) if isinstance(part, tuple) else part.encode() for part in parts)
    pieces, rest = [], whole
    for cut in cuts:
        pieces.append(rest[:cut])
        rest = rest[cut:]

    assert events(*(piece for piece in (*pieces, rest) if piece)) == events(*([whole] if whole else []))


def test_a_line_longer_than_an_event_is_cut() -> None:
    found = events(*[b"x" * 60_000] * 10, b"\n")

    assert "".join(found) == "x" * 600_000 + "\n"
    assert max(map(len, found)) <= 256 * 1024


@pytest.mark.parametrize("size", [2 << 20, 0xFFFFFFFF])
def test_a_record_that_claims_to_be_huge_is_not_waited_for(size: int) -> None:
    head = (0xA55A0003).to_bytes(4, "big") + size.to_bytes(4, "big") + bytes(8)

    assert events(head + b"text\n", b"more\n") == ["text\n", "more\n"]

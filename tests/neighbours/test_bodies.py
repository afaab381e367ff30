"""Bodies by their digest."""

from __future__ import annotations

from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lambay.neighbours.bodies import EMPTY, Bodies


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.lists(st.binary(min_size=1, max_size=9), max_size=5), st.data())
def test_any_stretch_of_a_content_is_read(tmp_path: Path, pieces: list[bytes], data: st.DataObject) -> None:
    bodies = Bodies(tmp_path / "objects")
    content = sum((bodies.keep(piece) for piece in pieces), EMPTY)
    whole = b"".join(pieces)
    offset = data.draw(st.integers(0, len(whole)))
    size = data.draw(st.none() | st.integers(0, len(whole) + 3))
    end = None if size is None else offset + size
    assert bodies.read(content, offset, size) == whole[offset:end]


def test_a_sweep_spares_what_is_referenced_young_or_kept_since(tmp_path: Path) -> None:
    bodies = Bodies(tmp_path / "objects")
    referenced, young, old, again = (
        bodies.keep(body) for body in (b"referenced", b"young", b"old", b"again")
    )
    for content in (referenced, old, again):
        bodies.settle(content)
    bodies.begin_sweep()
    bodies.settle(bodies.keep(b"again"))
    assert bodies.sweep({digest for digest, _ in referenced.pieces}) == 1
    assert [bodies.read(content) for content in (referenced, young, again)] == [
        b"referenced",
        b"young",
        b"again",
    ]


def test_what_an_interrupted_clear_or_write_left_is_tidied(tmp_path: Path) -> None:
    bodies = Bodies(tmp_path / "objects")
    kept = bodies.keep(b"kept")
    digest = kept.pieces[0][0]
    (tmp_path / "objects" / digest[:2] / f"{'0' * 64}.abcd.part").write_bytes(b"half")
    (tmp_path / "objects.abcd.gone").mkdir()
    bodies.tidy()
    assert {path.name for path in tmp_path.rglob("*")} == {"objects", digest[:2], digest}

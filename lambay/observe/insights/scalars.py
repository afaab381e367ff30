"""Functions of a query's expressions that give a value for each row, as SQL."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from lambay.observe.insights.language import Expression, InvalidQuery
from lambay.observe.insights.sql import Kind, Sql, as_number

_Work = Callable[[list[Sql]], Sql]


def _plain(function: str, kind: Kind, *, numeric: bool = False) -> _Work:
    def work(given: list[Sql]) -> Sql:
        texts = [as_number(each) if numeric else each.text for each in given]
        return Sql(f"{function}({', '.join(texts)})", kind)

    return work


def _blank(extra: str) -> _Work:
    def work(given: list[Sql]) -> Sql:
        return Sql(f"({given[0].text} IS NULL OR {extra.format(given[0].text)} = '')", "number")

    return work


def _concatenated(given: list[Sql]) -> Sql:
    return Sql("(" + " || ".join(f"coalesce({each.text}, '')" for each in given) + ")", "text")


def _extreme(function: str) -> _Work:
    def work(given: list[Sql]) -> Sql:
        return Sql(f"{function}({', '.join(as_number(each) for each in given)})", "number")

    return work


def _substring(given: list[Sql]) -> Sql:
    """From an index that counts from 0."""
    start = f"{as_number(given[1])} + 1"
    length = f", {as_number(given[2])}" if len(given) == 3 else ""
    return Sql(f"substr({given[0].text}, {start}{length})", "text")


SCALARS: dict[str, tuple[int, int, _Work]] = {
    "abs": (1, 1, _plain("abs", "number", numeric=True)),
    "ceil": (1, 1, _plain("ceiling", "number")),
    "floor": (1, 1, _plain("floored", "number")),
    "sqrt": (1, 1, _plain("square_root", "number")),
    "log": (1, 1, _plain("logarithm", "number")),
    "greatest": (2, 100, _extreme("max")),
    "least": (2, 100, _extreme("min")),
    "isempty": (1, 1, _blank("{0}")),
    "isblank": (1, 1, _blank("trim({0})")),
    "ispresent": (1, 1, lambda given: Sql(f"({given[0].text} IS NOT NULL)", "number")),
    "coalesce": (
        1,
        100,
        lambda given: Sql(
            given[0].text if len(given) == 1 else f"coalesce({', '.join(each.text for each in given)})",
            given[0].kind,
        ),
    ),
    "concat": (1, 100, _concatenated),
    "ltrim": (1, 2, _plain("left_stripped", "text")),
    "rtrim": (1, 2, _plain("right_stripped", "text")),
    "trim": (1, 2, _plain("stripped", "text")),
    "strlen": (1, 1, _plain("length", "number")),
    "toupper": (1, 1, _plain("upper", "text")),
    "tolower": (1, 1, _plain("lower", "text")),
    "substr": (2, 3, _substring),
    "replace": (3, 3, _plain("replaced", "text")),
    "strcontains": (
        2,
        2,
        lambda given: Sql(f"(instr({given[0].text}, {given[1].text}) > 0)", "number"),
    ),
    "frommillis": (1, 1, lambda given: Sql(as_number(given[0]), "time")),
    "tomillis": (1, 1, lambda given: Sql(f"moment_of({given[0].text})", "number")),
    "now": (0, 0, _plain("now", "number")),
    "jsonparse": (1, 1, _plain("parsed_json", "text")),
    "jsonstringify": (1, 1, lambda given: Sql(given[0].text, "text")),
    "isvalidip": (1, 1, _plain("is_ip", "number")),
    "isvalidipv4": (1, 1, _plain("is_ipv4", "number")),
    "isvalidipv6": (1, 1, _plain("is_ipv6", "number")),
    "isipinsubnet": (2, 2, _plain("in_subnet", "number")),
    "isipv4insubnet": (2, 2, _plain("in_subnet_v4", "number")),
    "isipv6insubnet": (2, 2, _plain("in_subnet_v6", "number")),
}


def check_count(name: str, arguments: Sequence[Expression], fewest: int, most: int) -> None:
    if not fewest <= len(arguments) <= most:
        wanted = str(fewest) if fewest == most else f"{fewest} to {most}"
        raise InvalidQuery(f"{name}() takes {wanted} arguments, {len(arguments)} were given")

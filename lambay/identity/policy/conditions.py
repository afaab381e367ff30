"""The Condition element: operators, set operators and keys that are missing.

IAM User Guide, "IAM JSON policy elements: Condition operators" and "Set operators for multivalued context
keys".
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from functools import lru_cache, partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any, Literal, TypeVar

from lambay.identity.policy.errors import MalformedPolicy
from lambay.identity.policy.patterns import Context, Matcher, Reach, parse

# Whether one value of the request satisfies the operator.
Test = Callable[[str, Context], bool]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Comparison:
    """One operator on one key, compared with the policy's values.

    `key` is in lower case. `every` and `some` are ForAllValues and ForAnyValue, which decide alone about
    keys without values: every one of none satisfies, some of none does not.
    """

    operator: str
    key: str
    quantifier: Literal["every", "some"] | None
    negated: bool
    absent: bool
    test: Test

    def met(self, context: Context) -> bool:
        values = context.get(self.key, ())
        if len(values) == 1 and self.quantifier is None:
            return self.test(values[0], context)
        if self.quantifier is not None:
            every = self.quantifier == "every"
            if _is_null(values):
                return every
            results = (self.test(value, context) for value in values)
            return all(results) if every else any(results)
        if not values:
            return self.absent
        # Operators without a set operator are for keys with one value. With several, one that is equal
        # satisfies `Equals` and breaks `NotEquals`.
        results = (self.test(value, context) for value in values)
        return all(results) if self.negated else any(results)


@dataclass(frozen=True, slots=True)
class Presence:
    """`Null`: whether the key is missing (`true`), or is there with a value (`false`)."""

    key: str
    wanted: frozenset[bool]

    def met(self, context: Context) -> bool:
        return _is_null(context.get(self.key, ())) in self.wanted


Condition = Comparison | Presence


def parse_conditions(element: Any, at: str, *, variables: bool) -> tuple[Condition, ...]:
    """Every condition of a Condition element, all of which have to be met.

    Raises MalformedPolicy naming the operator, key or value that is none.
    """
    if not isinstance(element, dict):
        raise MalformedPolicy(f"{at} must be an object of condition operators.")
    return tuple(_conditions(element, at, variables))


def _conditions(element: Mapping[str, Any], at: str, variables: bool) -> Iterator[Condition]:
    for written, keys in element.items():
        if not isinstance(keys, dict):
            raise MalformedPolicy(f"{at}.{written} must be an object of condition keys.")
        for key, given in keys.items():
            yield _condition(written, key, _values(given, f"{at}.{written}.{key}"), at, variables)


def _condition(written: str, key: str, values: Sequence[str], at: str, variables: bool) -> Condition:
    if written.lower() == "null":
        return Presence(key.lower(), frozenset(_truth(value, f"{at}.{written}.{key}") for value in values))
    found = _OPERATOR.fullmatch(written)
    if found is None or found["name"].lower() not in _OPERATORS:
        raise MalformedPolicy(f"{at}: {written!r} is not a condition operator.")
    name, negated, make = _OPERATORS[found["name"].lower()]
    qualifier = (found["set"] or "").lower()
    return Comparison(
        operator=written,
        key=key.lower(),
        quantifier={"forallvalues:": "every", "foranyvalue:": "some"}.get(qualifier),  # type: ignore[arg-type]
        negated=negated,
        absent=negated or found["exists"] is not None,
        test=make(values, f"{at}.{name}.{key}", variables),
    )


def _values(given: Any, at: str) -> list[str]:
    values = given if isinstance(given, list) else [given]
    if not values:
        raise MalformedPolicy(f"{at} must have at least one value.")
    for value in values:
        if not isinstance(value, str | bool | int | float | Decimal):
            raise MalformedPolicy(f"{at}: {value!r} is not a string, number or boolean.")
    return [("true" if value else "false") if isinstance(value, bool) else str(value) for value in values]


def _is_null(values: tuple[str, ...]) -> bool:
    """A key that is missing, has no value, or nothing but empty ones."""
    return not any(values)


# One function an operator family: the policy's values, read once, become a test of one value of the request.


def _strings(
    values: Sequence[str],
    at: str,
    variables: bool,
    *,
    wildcards: bool = False,
    fold: bool = False,
    reach: Reach = Reach.TEXT,
    negated: bool = False,
) -> Test:
    templates = [parse(value, wildcards=wildcards, variables=variables) for value in values]
    matcher = Matcher.of(templates, reach, fold=fold)
    # A comparison with a variable that has no value is neither: such a statement does not apply.
    wanted = not negated
    return lambda value, context: matcher.matches(value, context) is wanted


def _booleans(values: Sequence[str], at: str, variables: bool) -> Test:
    for value in values:
        if not (variables and "${" in value):
            _truth(value, at)
    return _strings(values, at, variables, fold=True)


def _binary(values: Sequence[str], at: str, variables: bool) -> Test:
    wanted = frozenset(_read(_bytes, value, at, "base64") for value in values)
    return lambda value, context: _or_none(_bytes, value) in wanted


def _numbers(
    values: Sequence[str],
    at: str,
    variables: bool,
    *,
    compare: Callable[[Any, Any], bool],
    negated: bool = False,
) -> Test:
    return _ordered([_read(_number, value, at, "a number") for value in values], _number, compare, negated)


def _dates(
    values: Sequence[str],
    at: str,
    variables: bool,
    *,
    compare: Callable[[Any, Any], bool],
    negated: bool = False,
) -> Test:
    wanted = [_read(_moment, value, at, "a date in ISO 8601 or epoch seconds") for value in values]
    return _ordered(wanted, _moment, compare, negated)


def _ordered(
    wanted: Sequence[T], read: Callable[[str], T], compare: Callable[[T, T], bool], negated: bool
) -> Test:
    def test(value: str, context: Context) -> bool:
        actual = _or_none(read, value)
        return (actual is not None and any(compare(actual, each) for each in wanted)) != negated

    return test


def _addresses(values: Sequence[str], at: str, variables: bool, *, negated: bool = False) -> Test:
    networks = [_read(_network, value, at, "an IP address or a range in CIDR notation") for value in values]

    def test(value: str, context: Context) -> bool:
        actual = _or_none(_address, value)
        return (actual is not None and any(actual in network for network in networks)) != negated

    return test


def _read(read: Callable[[str], T], value: str, at: str, expected: str) -> T:
    try:
        return read(value)
    except (ValueError, InvalidOperation, OverflowError):
        raise MalformedPolicy(f"{at}: {value!r} is not {expected}.") from None


def _or_none(read: Callable[[str], T], value: str) -> T | None:
    """What the request says, None where it is not of the operator's type and so equal to nothing."""
    try:
        return read(value)
    except (ValueError, InvalidOperation, OverflowError):
        return None


def _truth(value: str, at: str) -> bool:
    if value.lower() not in ("true", "false"):
        raise MalformedPolicy(f"{at}: {value!r} is not true or false.")
    return value.lower() == "true"


def _number(text: str) -> Decimal:
    number = Decimal(text)
    if not number.is_finite():
        raise ValueError("not finite")
    return number


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECONDS = re.compile(r"-?\d{1,4}\.\d+|-?\d{5,20}(\.\d+)?|-\d+|\d{1,3}")
_MOMENT = re.compile(
    r"(\d{4})(?:-(\d\d)(?:-(\d\d)(?:T(\d\d):(\d\d)(?::(\d\d)(?:\.(\d{1,9}))?)?(Z|[+-]\d\d:\d\d)?)?)?)?"
)


@lru_cache(maxsize=1024)
def _moment(text: str) -> Decimal:
    """Seconds since the epoch. Four digits are a year; a time without zone is in UTC."""
    if _SECONDS.fullmatch(text):
        return Decimal(text)
    found = _MOMENT.fullmatch(text)
    if found is None:
        raise ValueError("no date")
    year, month, day, hour, minute, second, fraction, zone = found.groups()
    fields = (int(year), int(month or 1), int(day or 1), int(hour or 0), int(minute or 0), int(second or 0))
    moment = datetime(*fields, tzinfo=UTC)
    offset = 0
    if zone not in (None, "Z"):
        offset = (int(zone[1:3]) * 3600 + int(zone[4:]) * 60) * (1 if zone[0] == "+" else -1)
    whole = int((moment - _EPOCH).total_seconds()) - offset
    return whole + Decimal(f"0.{fraction or 0}")


def _network(text: str) -> IPv4Network | IPv6Network:
    return ip_network(text, strict=False)


@lru_cache(maxsize=1024)
def _address(text: str) -> IPv4Address | IPv6Address:
    return ip_address(text)


def _bytes(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        raise ValueError("not base64") from None


def _less(actual: Any, wanted: Any) -> bool:
    return bool(actual < wanted)


def _at_most(actual: Any, wanted: Any) -> bool:
    return bool(actual <= wanted)


def _more(actual: Any, wanted: Any) -> bool:
    return bool(actual > wanted)


def _at_least(actual: Any, wanted: Any) -> bool:
    return bool(actual >= wanted)


def _same(actual: Any, wanted: Any) -> bool:
    return bool(actual == wanted)


_OPERATOR = re.compile(
    r"(?P<set>ForAllValues:|ForAnyValue:)?(?P<name>[A-Za-z]+?)(?P<exists>IfExists)?", re.IGNORECASE
)
_Make = Callable[[Sequence[str], str, bool], Test]


def _operators() -> Iterator[tuple[str, bool, _Make]]:
    """Each operator's name, whether it is negated, and how its values become a test."""
    for negated in (False, True):
        no = "Not" if negated else ""
        yield f"String{no}Equals", negated, partial(_strings, negated=negated)
        yield f"String{no}EqualsIgnoreCase", negated, partial(_strings, fold=True, negated=negated)
        yield f"String{no}Like", negated, partial(_strings, wildcards=True, negated=negated)
        for arn in (f"Arn{no}Equals", f"Arn{no}Like"):
            yield arn, negated, partial(_strings, wildcards=True, reach=Reach.ARN, negated=negated)
        yield f"Numeric{no}Equals", negated, partial(_numbers, compare=_same, negated=negated)
        yield f"Date{no}Equals", negated, partial(_dates, compare=_same, negated=negated)
        yield f"{no}IpAddress", negated, partial(_addresses, negated=negated)
    for name, compare in (
        ("LessThan", _less),
        ("LessThanEquals", _at_most),
        ("GreaterThan", _more),
        ("GreaterThanEquals", _at_least),
    ):
        yield f"Numeric{name}", False, partial(_numbers, compare=compare)
        yield f"Date{name}", False, partial(_dates, compare=compare)
    yield "Bool", False, _booleans
    yield "BinaryEquals", False, _binary


_OPERATORS = {name.lower(): (name, negated, make) for name, negated, make in _operators()}

"""Filter patterns, mostly by the examples of the CloudWatch Logs User Guide."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lambay.observe.filter_pattern import InvalidPattern, parse

APACHE = '127.0.0.1 Prod frank [10/Oct/2000:13:25:15 -0700] "GET /index.html HTTP/1.0" 404 1534'
TRAIL = """{
  "eventType": "UpdateTrail", "sourceIPAddress": "111.111.111.111",
  "arrayKey": ["value", "another value"], "objectList": [{"name": "a", "id": 1}, {"name": "b", "id": 2}],
  "SomeObject": null, "cluster.name": "c", "count": 12.5, "ok": true, "failed": false,
  "text": "404", "code": 404,
  "user": {"id": 1, "email": "John.Doe@example.com", "group-name": "x"}
}"""

TERMS = [
    ("", "anything", True),
    ('""', "anything", True),
    ("ERROR", "[ERROR 400] BAD REQUEST", True),
    ("ERROR", "[error 400] BAD REQUEST", False),
    ("Exception", "Caught IllegalArgumentException", True),
    ("ERROR ARGUMENTS", "[ERROR 419] MISSING ARGUMENTS", True),
    ("ERROR ARGUMENTS", "[ERROR 400] BAD REQUEST", False),
    ("?ERROR ?ARGUMENTS", "[ERROR 400] BAD REQUEST", True),
    ("?ERROR ?ARGUMENTS", "[INFO 200] FINE", False),
    ("ERROR -ARGUMENTS", "[ERROR 401] UNAUTHORIZED REQUEST", True),
    ("ERROR -ARGUMENTS", "[ERROR 419] MISSING ARGUMENTS", False),
    ('"INTERNAL SERVER ERROR"', "[ERROR 500] INTERNAL SERVER ERROR", True),
    ('"INTERNAL ERROR"', "[ERROR 500] INTERNAL SERVER ERROR", False),
    ('-"took 3 ms" REPORT', "REPORT took 3 ms", False),
    ('"say \\"hi\\""', 'they say "hi"', True),
    ("%AUTHORIZED%", "[ERROR 401] UNAUTHORIZED REQUEST", True),
    ("%^AUTHORIZED%", "[ERROR 401] UNAUTHORIZED REQUEST", False),
    ("%[Ee]rror|[Ff]ail% -debug", "it did Fail", True),
    ("-DEBUG", "INFO", True),
]
JSON = [
    ('{ $.eventType = "UpdateTrail" }', True),
    ('{$.eventType="UpdateTrail"}', True),
    ("{ $.eventType = UpdateTrail }", True),
    ('{ $.eventType = "*Trail" }', True),
    ('{ $.eventType != "UpdateTrail" }', False),
    ("{ $.sourceIPAddress != 123.123.* }", True),
    ("{ $.sourceIPAddress = 111.111.* }", True),
    ('{ $.arrayKey[0] = "value" }', True),
    ('{ $.arrayKey[2] = "value" }', False),
    ("{ $.objectList[1].id = 2 }", True),
    ("{ $.SomeObject IS NULL }", True),
    ("{ $.eventType IS NULL }", False),
    ("{ $.SomeOtherObject NOT EXISTS }", True),
    ("{ $.SomeObject NOT EXISTS }", False),
    ("{ $.ok IS TRUE && $.failed IS FALSE }", True),
    ("{ $.ok = true }", True),
    ("{ $.['cluster.name'] = \"c\" }", True),
    ("{ $.count > 12 && $.count <= 1.25e1 }", True),
    ("{ $.count >= 13 }", False),
    ("{ $.count = -12.5 }", False),
    ("{ $.code = 404 }", True),
    ("{ $.text = 404 }", True),
    ("{ $.code = 4* }", True),
    ('{ $.code = "404" }', False),
    ("{ $.code != 404 }", False),
    ("{ $.absent != 404 }", False),
    ("{ $.user > 1 }", False),
    ('{ ($.user.id = 1) && ($.user.email = "John.Doe@example.com") }', True),
    ('{ ($.user.id = 2 && $.ok IS TRUE) || $.user.group-name = "x" }', True),
    ("{ $.user.id = 2 && ($.ok IS TRUE || $.count = 12.5) }", False),
    ("{ $.eventType = %Trail$% }", True),
    ("{ $.eventType != %^Trail% }", True),
]
FIELDS = [
    ("[ip, id, user, timestamp, request, status_code, size]", True),
    ("[ip, id, user, timestamp, request, status_code]", False),
    ("[..., status_code, size]", True),
    ("[ip, ..., size > 1000]", True),
    ("[..., size > 2000]", False),
    ("[ip, id, user, timestamp, request =*.html*, status_code = 4*, size]", True),
    ("[ip=%127\\.0\\.0\\.[1-9]%, ...]", True),
    ("[ip != 127.0.0.1, ...]", False),
    ("[..., status_code = 404 || status_code = 410, size]", True),
    ("[..., status_code = 4* && status_code != 404, size]", False),
    ('[ip, id, user, timestamp = 10/Oct*, request = "GET*", ...]', True),
    ("[...]", True),
]
INVALID = [
    ("ORDER-ITEM-1", "Invalid character(s) in term 'ORDER-ITEM-1'"),
    ("RequestId: abc", "Invalid character(s) in term 'RequestId:'"),
    ('"open', 'a closing " is missing'),
    ("%open", "a closing % is missing"),
    ("%(a)%", "Invalid character(s) in term '%(a)%'"),
    ("%[a%", "Invalid filter pattern: %[a%"),
    ("{ $.a = 1", "If a filter pattern starts with '{' it must end with '}'"),
    ("[a, b", "If a filter pattern starts with '[' it must end with ']'"),
    ("{ }", "a selector ($.name) is expected"),
    ("{ $.a }", "a comparison is expected"),
    ("{ $.a = }", "a value is expected"),
    ("{ $.a = 1 $.b = 2 }", "unexpected '$.b = 2"),
    ("{ ($.a = 1 }", "')' expected"),
    ('{ $.a > "x" }', "needs a number, 'x' is none"),
    ("{ $.a IS WRONG }", "NULL, TRUE or FALSE expected"),
    ("{ $.a[x] = 1 }", "an index is expected"),
    ("{ $.a = %a% || $.a = %b% || $.a = %c% }", "at most 2 regular expressions"),
    ("[..., a, ...]", "only one ellipsis"),
    ("[a = 4* && b > 1]", "called a and b"),
    ("[a, , b]", "a field's name is expected"),
]  # fmt: skip


@pytest.mark.parametrize(("pattern", "message", "matches"), TERMS)
def test_terms(pattern, message, matches):
    assert parse(pattern).matches(message) is matches


@pytest.mark.parametrize(("pattern", "matches"), JSON)
def test_json(pattern, matches):
    assert parse(pattern).matches(TRAIL) is matches


@pytest.mark.parametrize(("pattern", "matches"), FIELDS)
def test_space_delimited(pattern, matches):
    assert parse(pattern).matches(APACHE) is matches


@pytest.mark.parametrize(("pattern", "message"), INVALID)
def test_unreadable_patterns_say_what_is_wrong(pattern, message):
    with pytest.raises(InvalidPattern) as caught:
        parse(pattern)
    assert message in str(caught.value)


def test_messages_that_are_not_json_match_no_json_pattern():
    for message in ("", "plain", "{broken", "[1,", "12"):
        assert not parse("{ $.a NOT EXISTS }").matches(message)


def test_values_are_extracted_by_name():
    assert parse('{ $.eventType = "*" && $.objectList[1].id > 1 && $.gone NOT EXISTS }').extract(TRAIL) == {
        "$.eventType": "UpdateTrail",
        "$.objectList[1].id": "2",
    }
    assert parse("[ip, ..., request, status, size]").extract(APACHE) == {
        "$ip": "127.0.0.1",
        "$request": "GET /index.html HTTP/1.0",
        "$status": "404",
        "$size": "1534",
    }


PHRASES = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=12)


@given(PHRASES, PHRASES, PHRASES)
def test_a_quoted_phrase_is_found_wherever_it_stands(before, phrase, after):
    quoted = '"' + phrase.replace("\\", "\\\\").replace('"', '\\"') + '"'
    pattern = parse(quoted)
    assert pattern.matches(before + phrase + after)
    assert all(literal in before + phrase + after for literal in pattern.literals)


@given(st.text(alphabet='{}[]()$.="%?-&|<>! ab1*,', max_size=24), st.text(max_size=20))
def test_any_text_is_a_pattern_or_an_error(text, message):
    try:
        pattern = parse(text)
    except InvalidPattern:
        return
    pattern.matches(message)
    pattern.matches('{"a": [1, "b"]}')
    pattern.extract(message)

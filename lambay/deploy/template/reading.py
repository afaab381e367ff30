"""Template text, JSON or YAML, to plain values and the lines where they stand.

YAML is CloudFormation's dialect of version 1.1: short forms of intrinsic functions, no aliases or merges, no
timestamps (a policy's `2012-10-17` is text), numbers with a leading zero are text. See the CloudFormation User
Guide, "Template formats".
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

import yaml

from lambay.aws import AWSError
from lambay.deploy.template.errors import faulty, malformed

Path = tuple[str | int, ...]

_NUMBER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_DECIMAL = re.compile(
    r"[-+]?(?:0|[1-9][0-9]*)?\.[0-9]+(?:[eE][-+]?[0-9]+)?|[-+]?[0-9]+(?:\.[0-9]*)?[eE][-+]?[0-9]+"
)
_TRUE = frozenset(("true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON"))
_FALSE = frozenset(("false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF"))
_NULL = frozenset(("", "~", "null", "Null", "NULL"))
_LONG_NAMES = {"Ref": "Ref", "Condition": "Condition"}
_SHORT = frozenset(
    (
        "Base64",
        "Cidr",
        "FindInMap",
        "GetAtt",
        "GetAZs",
        "ImportValue",
        "Join",
        "Select",
        "Split",
        "Sub",
        "Transform",
        "And",
        "Equals",
        "If",
        "Not",
        "Or",
        "Contains",
        "EachMemberEquals",
        "EachMemberIn",
        "RefAll",
        "ValueOf",
        "ValueOfAll",
        "Length",
        "ToJsonString",
        "GetStackOutput",
    )
)


@dataclass(frozen=True, slots=True)
class Document:
    """`body` in plain values; `lines` are where its keys and items stand, counted from 1."""

    body: dict[str, Any]
    lines: dict[Path, int] = field(default_factory=dict)

    def line(self, *path: str | int) -> int | None:
        """Where `path` stands, or the nearest part around it that has a line."""
        for length in range(len(path), 0, -1):
            found = self.lines.get(path[:length])
            if found is not None:
                return found
        return None


def read(text: str) -> Document:
    """Raises AWSError ValidationError where `text` is no template at all."""
    body, lines = _read(text)
    if not isinstance(body, dict):
        raise malformed("unsupported structure.")
    return Document(body, lines)


def plain(text: str) -> Any:
    """Any JSON or YAML with short forms, such as an included snippet."""
    return _read(text)[0]


def _read(text: str) -> tuple[Any, dict[Path, int]]:
    if not text.strip():
        raise malformed("unsupported structure.")
    if text.lstrip().startswith("{"):
        try:
            body = json.loads(text, object_pairs_hook=_pairs)
        except json.JSONDecodeError as error:
            # A YAML flow mapping begins as JSON does.
            try:
                return _yaml(text)
            except AWSError:
                raise malformed(
                    f"JSON not well-formed. (line {error.lineno}, column {error.colno})"
                ) from None
        try:
            return body, _yaml(text)[1]
        except AWSError:
            return body, {}
    return _yaml(text)


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, value in pairs:
        if key in made:
            raise malformed(f"JSON not well-formed. The key {key!r} is given twice.")
        made[key] = value
    return made


def _yaml(text: str) -> tuple[Any, dict[Path, int]]:
    reader = _Reader()
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text)
    try:
        for event in yaml.parse(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
            if isinstance(event, yaml.AliasEvent):
                raise faulty("YAML aliases are not allowed in CloudFormation templates")
        node = loader.get_single_node()
        if node is None:
            raise malformed("unsupported structure.")
        return reader.value(node, ()), reader.lines
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark is not None else ""
        raise malformed(f"YAML not well-formed.{where}") from None
    except yaml.YAMLError:
        raise malformed("YAML not well-formed.") from None
    except RecursionError:
        raise malformed("YAML not well-formed. It is nested too deeply.") from None
    finally:
        loader.dispose()


class _Reader:
    """YAML nodes to values."""

    def __init__(self) -> None:
        self.lines: dict[Path, int] = {}

    def value(self, node: yaml.Node, path: Path) -> Any:
        self.lines.setdefault(path, node.start_mark.line + 1)
        tag = node.tag or ""
        if tag.startswith("!") and tag != "!":
            return self._short_form(tag[1:], node, path)
        return self._bare(node, path)

    def _bare(self, node: yaml.Node, path: Path) -> Any:
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*path, number)) for number, item in enumerate(node.value)]
        assert isinstance(node, yaml.ScalarNode)
        return _scalar(node)

    def _mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise malformed(f"YAML not well-formed. {_where(key_node)} A key must be text.")
            key = str(key_node.value)
            if key in made:
                first = self.lines[(*path, key)]
                raise malformed(
                    f"YAML not well-formed. {_where(key_node)} The key {key!r} is given twice, first at line {first}."
                )
            self.lines[(*path, key)] = key_node.start_mark.line + 1
            made[key] = self.value(value_node, (*path, key))
        return made

    def _short_form(self, name: str, node: yaml.Node, path: Path) -> Any:
        long_name = _LONG_NAMES.get(name) or (f"Fn::{name}" if name in _SHORT else None)
        if long_name is None:
            raise malformed(f"YAML not well-formed. {_where(node)} The tag !{name} is not known.")
        is_text = isinstance(node, yaml.ScalarNode)
        value: Any = str(node.value) if is_text else self._bare(node, (*path, long_name))
        if long_name == "Fn::GetAtt" and isinstance(value, str):
            value = list(value.partition(".")[::2]) if "." in value else value
        return {long_name: value}


def _scalar(node: yaml.ScalarNode) -> Any:
    text = str(node.value)
    if node.style in ("'", '"', "|", ">"):
        return text
    if node.tag == "tag:yaml.org,2002:str" and not _NUMBER.fullmatch(text) and text not in _NULL:
        return text
    if text in _NULL:
        return None
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    if _NUMBER.fullmatch(text):
        return int(text)
    if _DECIMAL.fullmatch(text):
        return float(text)
    return text


def _where(node: yaml.Node) -> str:
    return f"(line {node.start_mark.line + 1}, column {node.start_mark.column + 1})"

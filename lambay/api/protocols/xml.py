"""Values of the model to and from XML, for restXml and the answers of awsQuery and ec2Query."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any
from xml.etree.ElementTree import Element, ParseError, TreeBuilder, XMLParser
from xml.sax.saxutils import escape, quoteattr

from lambay.api.model import Member, Shape
from lambay.api.protocols.scalars import from_text, malformed, to_text

_XMLNS_XSI = "http://www.w3.org/2001/XMLSchema-instance"
# Carriage returns would be read back as line feeds, and the rest of C0 is not XML 1.0 at all.
_REFERENCES = {"\r": "&#xD;"}


# From the wire.


def document(body: bytes) -> Element:
    """The root element. Document type declarations are refused: no API needs them and they can be bombs."""
    parser = XMLParser(target=_NoDoctype())
    try:
        parser.feed(body)
        root: Element = parser.close()
    except (ParseError, ValueError) as error:
        raise malformed(f"Could not parse request body into xml: {error}") from None
    return root


def read_structure(element: Element, members: Iterable[Member], path: str = "") -> dict[str, Any]:
    """The members found among an element's children and attributes."""
    children: dict[str, list[Element]] = {}
    for child in element:
        children.setdefault(_local(child.tag), []).append(child)
    found: dict[str, Any] = {}
    for member in members:
        if member.xml_attribute:
            text = _attribute(element, member)
            if text is not None:
                found[member.name] = from_text(member, text, f"{path}{member.name}")
            continue
        nodes = children.get(_container(member))
        if nodes:
            found[member.name] = _read(member, nodes, f"{path}{member.name}")
    return found


def read(member: Member, element: Element) -> Any:
    """A value whose element is already at hand, such as a document's root."""
    return _read(member, list(element) if member.flattened else [element], member.name)


def _read(member: Member, nodes: list[Element], path: str) -> Any:
    shape, node = member.shape, nodes[0]
    match shape.type:
        case "structure":
            return read_structure(node, shape.members.values(), f"{path}.")
        case "list":
            assert shape.element is not None
            items = nodes if member.flattened else list(node)
            return [_read(shape.element, [item], f"{path}.{at}") for at, item in enumerate(items, 1)]
        case "map":
            assert shape.key is not None
            assert shape.value is not None
            pairs: dict[str, Any] = {}
            for item in nodes if member.flattened else node:
                parts = {_local(part.tag): part for part in item}
                key, value = parts.get(shape.key.wire), parts.get(shape.value.wire)
                if key is None or value is None:
                    raise malformed(f"'{path}': an entry lacks its {shape.key.wire} or {shape.value.wire}")
                pairs[key.text or ""] = _read(shape.value, [value], f"{path}.{key.text}")
            return pairs
        case _:
            text = node.text or ""
            return from_text(member, text if shape.type == "string" else text.strip(), path)


class _NoDoctype(TreeBuilder):
    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:
        raise ValueError("document type declarations are not allowed")


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


def _attribute(element: Element, member: Member) -> str | None:
    wanted = member.wire.rpartition(":")[2]
    return next((value for name, value in element.attrib.items() if _local(name) == wanted), None)


def _container(member: Member) -> str:
    """The tag that a member's value is in; flattened lists go by their element's name."""
    if member.flattened and member.shape.element is not None and member.shape.element.located:
        return member.shape.element.wire
    return member.wire


# To the wire.

Naming = Callable[[Member], str]


def write_structure(value: Mapping[str, Any], members: Mapping[str, Member]) -> str:
    """The members as elements, in the order of the model. Attributes are the caller's (see `element`)."""
    return "".join(
        write(member, value[name])
        for name, member in members.items()
        if not member.xml_attribute and value.get(name) is not None
    )


def element(tag: str, attributes: str, content: str) -> str:
    return f"<{tag}{attributes}>{content}</{tag}>"


def namespace(uri: str | None) -> str:
    return f" xmlns={quoteattr(uri)}" if uri else ""


def write(member: Member, value: Any, tag: str | None = None) -> str:
    """One value as an element, or as several where it is flattened."""
    shape, tag = member.shape, tag or _container(member)
    attributes = _own_attributes(member, value)
    match shape.type:
        case "structure":
            return element(tag, attributes, write_structure(value, shape.members))
        case "list":
            assert shape.element is not None
            if member.flattened:
                return "".join(write(shape.element, item, tag) for item in value)
            items = "".join(write(shape.element, item, shape.element.wire) for item in value)
            return element(tag, attributes, items)
        case "map":
            entries = [_entry(shape, key, item) for key, item in value.items() if item is not None]
            if member.flattened:
                return "".join(element(tag, "", entry) for entry in entries)
            return element(tag, attributes, "".join(element("entry", "", entry) for entry in entries))
        case _:
            return element(tag, attributes, escape(to_text(member, value, "iso8601"), _REFERENCES))


def _entry(shape: Shape, key: str, value: Any) -> str:
    assert shape.key is not None
    assert shape.value is not None
    return write(shape.key, key, shape.key.wire) + write(shape.value, value, shape.value.wire)


def _own_attributes(member: Member, value: Any) -> str:
    """The namespace of an element and the members that are attributes of it."""
    text = ""
    if member.xml_namespace is not None:
        prefix, uri = member.xml_namespace
        text = f" xmlns{':' + prefix if prefix else ''}={quoteattr(uri)}"
    if member.shape.type == "structure":
        for name, part in member.shape.members.items():
            if part.xml_attribute and value.get(name) is not None:
                text += f" {part.wire}={quoteattr(to_text(part, value[name], 'iso8601'))}"
    return text

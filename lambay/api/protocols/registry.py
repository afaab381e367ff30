"""The protocols by the names that models use."""

from __future__ import annotations

from lambay.api.protocols import WireProtocol
from lambay.api.protocols.ec2 import EC2
from lambay.api.protocols.json import JSON
from lambay.api.protocols.query import Query
from lambay.api.protocols.rest_json import RestJSON
from lambay.api.protocols.rest_xml import RestXML
from lambay.api.protocols.rpc_v2_cbor import RPCv2CBOR

_PROTOCOLS: dict[str, WireProtocol] = {
    "rest-json": RestJSON(),
    "rest-xml": RestXML(),
    "json": JSON(),
    "query": Query(),
    "ec2": EC2(),
    "smithy-rpc-v2-cbor": RPCv2CBOR(),
}


def protocol(name: str) -> WireProtocol:
    return _PROTOCOLS[name]

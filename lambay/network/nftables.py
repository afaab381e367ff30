"""libnftables by its JSON: one document is one transaction of the kernel; see libnftables-json(5)."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from typing import Any

import msgspec

from lambay.network.namespaces import inside

Command = dict[str, Any]

LIBRARY = "libnftables.so.1"
_OUTPUT_JSON = 1 << 4


class RulesRefused(OSError):
    """The kernel or the library did not take a transaction; nothing of it was done."""


@cache
def _library() -> ctypes.CDLL:
    library = ctypes.CDLL(LIBRARY)
    library.nft_ctx_new.restype = ctypes.c_void_p
    library.nft_ctx_new.argtypes = [ctypes.c_uint32]
    library.nft_ctx_get_error_buffer.restype = ctypes.c_char_p
    library.nft_ctx_get_output_buffer.restype = ctypes.c_char_p
    for name in ("buffer_output", "buffer_error", "get_error_buffer", "get_output_buffer", "free"):
        getattr(library, f"nft_ctx_{name}").argtypes = [ctypes.c_void_p]
    library.nft_ctx_output_set_flags.argtypes = [ctypes.c_void_p, ctypes.c_uint]
    library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    return library


class Nftables:
    """The rules of one namespace; `None` is the calling thread's own. One thread at a time."""

    def __init__(self, namespace: int | None = None) -> None:
        if namespace is None:
            self._context = _library().nft_ctx_new(0)
        else:
            # Its netlink socket is of the namespace that it is opened in, and stays so.
            with inside(namespace):
                self._context = _library().nft_ctx_new(0)
        library = _library()
        library.nft_ctx_buffer_output(self._context)
        library.nft_ctx_buffer_error(self._context)
        library.nft_ctx_output_set_flags(self._context, _OUTPUT_JSON)

    def commit(self, commands: Sequence[Command]) -> None:
        """All of `commands` or, with RulesRefused, none."""
        self._run(msgspec.json.encode({"nftables": commands}))

    def tables(self) -> list[tuple[str, str]]:
        """Family and name of each table."""
        answer = msgspec.json.decode(
            self._run(msgspec.json.encode({"nftables": [{"list": {"tables": None}}]}))
        )
        return [
            (each["table"]["family"], each["table"]["name"]) for each in answer["nftables"] if "table" in each
        ]

    def counters(self, table: str, family: str = "ip") -> dict[str, tuple[int, int]]:
        """Bytes and packets of each named counter of the table."""
        asked = {"list": {"counters": {"family": family, "table": table}}}
        answer = msgspec.json.decode(self._run(msgspec.json.encode({"nftables": [asked]})))
        counted = [each["counter"] for each in answer["nftables"] if "counter" in each]
        return {each["name"]: (each["bytes"], each["packets"]) for each in counted}

    def close(self) -> None:
        if self._context is not None:
            _library().nft_ctx_free(self._context)
            self._context = None

    def _run(self, document: bytes) -> bytes:
        library = _library()
        failed = library.nft_run_cmd_from_buffer(self._context, document)
        said = library.nft_ctx_get_error_buffer(self._context) or b""
        output: bytes = library.nft_ctx_get_output_buffer(self._context) or b""
        if failed:
            raise RulesRefused(said.decode(errors="replace").strip() or "nftables refused a transaction")
        return output


def replaced_table(name: str, family: str = "ip") -> list[Command]:
    """The commands after which the table exists and is empty."""
    table = {"family": family, "name": name}
    return [{"add": {"table": table}}, {"delete": {"table": table}}, {"add": {"table": table}}]


class Table:
    """Gathers the commands of one transaction on one table."""

    def __init__(self, name: str, family: str = "ip") -> None:
        self._where = {"family": family, "table": name}
        self.commands: list[Command] = []

    def chain(self, name: str, **base: Any) -> None:
        """`base` is type, hook, prio and policy of a base chain."""
        self.commands.append({"add": {"chain": {**self._where, "name": name, **base}}})

    def flush_chain(self, name: str) -> None:
        self.commands.append({"flush": {"chain": {**self._where, "name": name}}})

    def delete_chain(self, name: str) -> None:
        self.commands.append({"delete": {"chain": {**self._where, "name": name}}})

    def counter(self, name: str) -> None:
        """A counter by name; one that is there already goes on counting."""
        self.commands.append({"add": {"counter": {**self._where, "name": name}}})

    def rule(self, chain: str, *expression: Command) -> None:
        self.commands.append({"add": {"rule": {**self._where, "chain": chain, "expr": list(expression)}}})

    def set(self, name: str, kind: Any, elements: Sequence[Any] = (), *, interval: bool = False) -> None:
        made: Command = {**self._where, "name": name, "type": kind}
        if interval:
            made |= {"flags": ["interval"], "auto-merge": True}
        if elements:
            made["elem"] = list(elements)
        self.commands.append({"add": {"set": made}})

    def map(self, name: str, kind: str, to: str, elements: Sequence[Any] = ()) -> None:
        made: Command = {**self._where, "name": name, "type": kind, "map": to}
        if elements:
            made["elem"] = list(elements)
        self.commands.append({"add": {"map": made}})

    def put(self, name: str, elements: Sequence[Any]) -> None:
        self.commands.append({"add": {"element": {**self._where, "name": name, "elem": list(elements)}}})

    def take(self, name: str, elements: Sequence[Any]) -> None:
        self.commands.append({"delete": {"element": {**self._where, "name": name, "elem": list(elements)}}})


# Expressions

ACCEPT: Command = {"accept": None}
DROP: Command = {"drop": None}
RETURN: Command = {"return": None}


def jump(chain: str) -> Command:
    return {"jump": {"target": chain}}


def match(left: Any, right: Any, op: str = "==") -> Command:
    return {"match": {"op": op, "left": left, "right": right}}


def field(name: str, protocol: str = "ip") -> Command:
    return {"payload": {"protocol": protocol, "field": name}}


def meta(key: str) -> Command:
    return {"meta": {"key": key}}


def ct(key: str) -> Command:
    return {"ct": {"key": key}}


def prefix(cidr: str) -> Any:
    address, _, length = cidr.partition("/")
    if not length or length == "32":
        return address
    return {"prefix": {"addr": address, "len": int(length)}}


def ports(first: int, last: int) -> Any:
    return first if first == last else {"range": [first, last]}

"""moto's whole state in one pickle, and back.

A snapshot is read only by the version of moto that wrote it: what an object of moto looks like inside is
nobody's promise. All services go into one pickle, so that an object two of them share stays one object.
"""

from __future__ import annotations

import copyreg
import hashlib
import importlib
import importlib.metadata
import io
import marshal
import os
import pickle
import sys
import threading
import types
import weakref
from collections import Counter, OrderedDict, defaultdict
from pathlib import Path
from typing import Any

from lambay.neighbours.bodies import Content, sync_directory
from lambay.neighbours.interfaces import set_aside

# Raised when what a snapshot holds beside moto's own objects changes.
_FORMAT = 1

_LOCK = type(threading.Lock())
_RLOCK = type(threading.RLock())
_PLAIN_DICTS = (dict, defaultdict, OrderedDict, Counter)
_OF_THE_CLASS = frozenset({"backend", "service_name", "_use_boto3_regions", "_additional_regions", "_id"})


def version() -> str:
    """What a snapshot's reader must have in common with its writer."""
    python = ".".join(map(str, sys.version_info[:3]))
    return f"moto {importlib.metadata.version('moto')}, Python {python}, format {_FORMAT}"


class Unpicklable(Exception):
    """A service holds something that no snapshot can keep; the text names the service."""


class _Pickler(pickle.Pickler):
    """Registries of moto's backends by name, locks as new locks, keys and certificates in their standard
    encodings.
    """

    def __init__(self, file: io.BytesIO) -> None:
        from cryptography import x509
        from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
        from moto.core.base_backend import AccountSpecificBackend, BackendDict

        super().__init__(file, pickle.HIGHEST_PROTOCOL)
        self._registry, self._account = BackendDict, AccountSpecificBackend
        self._private = (rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey, ed25519.Ed25519PrivateKey)
        self._public = (rsa.RSAPublicKey, ec.EllipticCurvePublicKey, ed25519.Ed25519PublicKey)
        self._certificate = x509.Certificate
        self.contents: set[str] = set()

    def persistent_id(self, obj: Any) -> Any:
        if isinstance(obj, self._registry):
            return ("registry", *_name(obj))
        if isinstance(obj, self._account):
            return ("account", *_name(obj), obj.account_id)
        return None

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, Content):
            self.contents.update(digest for digest, _ in obj.pieces)
            return NotImplemented
        if isinstance(obj, _LOCK):
            return threading.Lock, ()
        if isinstance(obj, _RLOCK):
            return threading.RLock, ()
        if isinstance(obj, weakref.ref) and obj() is not None:
            return weakref.ref, (obj(),)
        if isinstance(obj, self._private):
            return _private_key, (_private_bytes(obj),)
        if isinstance(obj, self._public):
            return _public_key, (_public_bytes(obj),)
        if isinstance(obj, self._certificate):
            return _certificate, (_certificate_bytes(obj),)
        if isinstance(obj, dict) and type(obj) not in _PLAIN_DICTS:
            return _reduced_dict(obj)
        if isinstance(obj, types.FunctionType) and "<" in obj.__qualname__:
            return _reduced_function(obj)
        return NotImplemented


class _Unpickler(pickle.Unpickler):
    def persistent_load(self, pid: Any) -> Any:
        kind, module, name, *rest = pid
        registry = _registry(module, name)
        return registry if kind == "registry" else registry[rest[0]]


def dump() -> tuple[bytes, set[str]]:
    """The state without derived interfaces, and the digests of the bodies it refers to.

    Raises Unpicklable.
    """
    with set_aside():
        state = [_state_of(registry) for registry in _registries()]
        file = io.BytesIO()
        pickler = _Pickler(file)
        try:
            pickler.dump(state)
        except Exception as error:
            raise Unpicklable(f"{_culprits(state) or 'moto'}: {error}") from error
        octets = file.getvalue()
    try:
        _Unpickler(io.BytesIO(octets)).load()
    except Exception as error:
        raise Unpicklable(f"what was written does not read: {error}") from error
    return octets, pickler.contents


def load(octets: bytes) -> None:
    """Put moto's state back, in place of the one it has."""
    for module, name, attributes, accounts in _Unpickler(io.BytesIO(octets)).load():
        registry = _registry(module, name)
        vars(registry).update(attributes)
        for account, backends in accounts.items():
            regions = registry[account]
            for region, backend in backends.items():
                dict.__setitem__(regions, region, backend)


def write(directory: Path, name: str, octets: bytes) -> str:
    """Write the file `name` durably; its SHA-256 in hex."""
    part = directory / f"{name}.part"
    with part.open("wb") as file:
        file.write(octets)
        file.flush()
        os.fsync(file.fileno())
    part.rename(directory / name)
    sync_directory(directory)
    return hashlib.sha256(octets).hexdigest()


def read(directory: Path, name: str, sha256: str) -> bytes:
    """What `write` wrote. Raises ValueError where the file is another, OSError where it is gone."""
    octets = (directory / name).read_bytes()
    if hashlib.sha256(octets).hexdigest() != sha256:
        raise ValueError(f"{directory / name} is not what was written")
    return octets


def _registries() -> list[Any]:
    from moto.core.base_backend import BackendDict

    instances: list[Any] = BackendDict._instances  # type: ignore[misc]
    return list(instances)


def _state_of(registry: Any) -> tuple[str, str, dict[str, Any], dict[str, dict[str, Any]]]:
    attributes = {name: value for name, value in vars(registry).items() if name not in _OF_THE_CLASS}
    accounts = {account: dict(dict.items(regions)) for account, regions in dict.items(registry)}
    return (*_name(registry), attributes, accounts)


def _culprits(state: list[Any]) -> str:
    """The services whose state alone does not pickle."""
    found = []
    for entry in state:
        try:
            _Pickler(io.BytesIO()).dump(entry)
        except Exception:
            found.append(entry[0].split(".")[1])
    return ", ".join(found)


def _name(registry: Any) -> tuple[str, str]:
    return registry.backend.__module__, registry.backend.__qualname__


def _registry(module: str, name: str) -> Any:
    from moto.core.base_backend import BackendDict

    for value in vars(importlib.import_module(module)).values():
        if isinstance(value, BackendDict) and value.backend.__qualname__ == name:
            return value
    raise pickle.UnpicklingError(f"{module} has no registry of {name}")


def _reduced_dict(mapping: Any) -> Any:
    """A dict of moto's own kind.

    By what it holds, past whatever its methods show (S3 lists only the last version).
    """
    base = OrderedDict if isinstance(mapping, OrderedDict) else dict
    state = vars(mapping), getattr(mapping, "default_factory", None), list(base.items(mapping))
    return copyreg.__newobj__, (type(mapping),), state, None, None, _restore_dict  # type: ignore[attr-defined]


def _restore_dict(mapping: Any, state: tuple[dict[str, Any], Any, list[tuple[Any, Any]]]) -> None:
    attributes, factory, items = state
    base = OrderedDict if isinstance(mapping, OrderedDict) else dict
    vars(mapping).update(attributes)
    if factory is not None:
        mapping.default_factory = factory
    for key, value in items:
        base.__setitem__(mapping, key, value)


def _reduced_function(function: types.FunctionType) -> Any:
    """A lambda or inner function, by its code: the default of a `defaultdict`, mostly."""
    code = marshal.dumps(function.__code__)
    cells = function.__closure__ or ()
    made = (function.__module__, code, function.__name__, function.__defaults__, len(cells))
    return _function, made, [cell.cell_contents for cell in cells], None, None, _close_over


def _function(module: str, code: bytes, name: str, defaults: Any, cells: int) -> types.FunctionType:
    scope = vars(importlib.import_module(module))
    return types.FunctionType(
        marshal.loads(code), scope, name, defaults, tuple(types.CellType() for _ in range(cells))
    )


def _close_over(function: types.FunctionType, values: list[Any]) -> None:
    for cell, value in zip(function.__closure__ or (), values, strict=True):
        cell.cell_contents = value


def _private_bytes(key: Any) -> bytes:
    from cryptography.hazmat.primitives import serialization as s

    octets: bytes = key.private_bytes(s.Encoding.DER, s.PrivateFormat.PKCS8, s.NoEncryption())
    return octets


def _private_key(octets: bytes) -> Any:
    from cryptography.hazmat.primitives.serialization import load_der_private_key

    return load_der_private_key(octets, password=None)


def _public_bytes(key: Any) -> bytes:
    from cryptography.hazmat.primitives import serialization as s

    octets: bytes = key.public_bytes(s.Encoding.DER, s.PublicFormat.SubjectPublicKeyInfo)
    return octets


def _public_key(octets: bytes) -> Any:
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    return load_der_public_key(octets)


def _certificate_bytes(certificate: Any) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    octets: bytes = certificate.public_bytes(Encoding.DER)
    return octets


def _certificate(octets: bytes) -> Any:
    from cryptography.x509 import load_der_x509_certificate

    return load_der_x509_certificate(octets)

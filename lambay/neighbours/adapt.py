"""Adapts moto's modules as they are imported, so that time and randomness come from the current `Moment`.

moto reads the time through `datetime` and `time`, and randomness mostly through its `mock_random`, here and
there through `uuid`, `random` and `os.urandom`. Each name a moto module has for one of these is replaced by a
stand-in of the same behaviour; nobody else's modules change. Key pairs come from the `cryptography` library,
which takes no seed: there the moment's tape records them.
"""

from __future__ import annotations

import datetime as real_datetime
import hashlib
import importlib
import importlib.machinery
import os
import random as real_random
import sys
import time as real_time
import types
import uuid as real_uuid
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from typing import Any

from lambay.neighbours import moment


class _Present:
    """The clock that tells the time outside of a moment; set by `install`."""

    now: Callable[[], float] = real_time.time


def _time() -> float:
    at = moment.current()
    return _Present.now() if at is None else at.time


def _time_ns() -> int:
    return int(_time() * 1_000_000_000)


class _DatetimeKind(type):
    """Everything but the present is the real class's: construction, parsing, `isinstance`."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return real_datetime.datetime(*args, **kwargs)

    def __getattr__(cls, name: str) -> Any:
        return getattr(real_datetime.datetime, name)

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, real_datetime.datetime)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, real_datetime.datetime)


class _Datetime(metaclass=_DatetimeKind):
    @staticmethod
    def now(tz: real_datetime.tzinfo | None = None) -> real_datetime.datetime:
        return real_datetime.datetime.fromtimestamp(_time(), tz)

    @staticmethod
    def utcnow() -> real_datetime.datetime:
        return real_datetime.datetime.fromtimestamp(_time(), real_datetime.UTC).replace(tzinfo=None)

    @staticmethod
    def today() -> real_datetime.datetime:
        return real_datetime.datetime.fromtimestamp(_time())


class _DateKind(type):
    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        return real_datetime.date(*args, **kwargs)

    def __getattr__(cls, name: str) -> Any:
        return getattr(real_datetime.date, name)

    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, real_datetime.date)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, real_datetime.date)


class _Date(metaclass=_DateKind):
    @staticmethod
    def today() -> real_datetime.date:
        return real_datetime.date.fromtimestamp(_time())


class _Random(real_random.Random):
    """Python's generator with its two sources of bits taken from the moment; also what moto's becomes."""

    def random(self) -> float:
        return moment.draws().random()

    def getrandbits(self, k: int, /) -> int:
        return moment.draws().getrandbits(k)


def _uuid4() -> real_uuid.UUID:
    return real_uuid.UUID(int=moment.draws().getrandbits(128), version=4)


def _stand_in(module: types.ModuleType, **names: Any) -> types.ModuleType:
    copy = types.ModuleType(module.__name__, module.__doc__)
    copy.__dict__.update(module.__dict__)
    copy.__dict__.update(names)
    return copy


def _stand_ins() -> dict[int, Any]:
    generator = _Random()
    public = [name for name in dir(generator) if not name.startswith("_") and hasattr(real_random, name)]
    drawn = {name: getattr(generator, name) for name in public if callable(getattr(generator, name))}
    pairs: list[tuple[Any, Any]] = [
        (real_datetime, _stand_in(real_datetime, datetime=_Datetime, date=_Date)),
        (real_datetime.datetime, _Datetime),
        (real_datetime.date, _Date),
        (real_time, _stand_in(real_time, time=_time, time_ns=_time_ns)),
        (real_time.time, _time),
        (real_uuid, _stand_in(real_uuid, uuid4=_uuid4, uuid1=_uuid4)),
        (real_uuid.uuid4, _uuid4),
        (real_random, _stand_in(real_random, **drawn)),
        (os, _stand_in(os, urandom=moment.octets)),
    ]
    return {id(real): other for real, other in pairs}


_STAND_INS = _stand_ins()
_adapters: dict[str, list[Callable[[types.ModuleType], None]]] = {}


def adapter(name: str) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
    """Decorates a function that is called with the module `name` once it has been imported."""

    def register(adapt: Callable[[Any], None]) -> Callable[[Any], None]:
        _adapters.setdefault(name, []).append(adapt)
        return adapt

    return register


def _adapt(module: types.ModuleType) -> None:
    for name, value in list(vars(module).items()):
        other = _STAND_INS.get(id(value))
        if other is not None:
            setattr(module, name, other)
    for adapt in _adapters.get(module.__name__, ()):
        adapt(module)


def _import_of(name: str) -> moment.Moment:
    return moment.Moment(_Present.now(), hashlib.sha256(name.encode()).digest())


class _Loader(importlib.machinery.SourceFileLoader):
    def exec_module(self, module: types.ModuleType) -> None:
        # A module may be imported in the midst of a request; what it draws must not shift what the request
        # draws.
        with moment.within(_import_of(module.__name__)):
            super().exec_module(module)
        _adapt(module)


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != "moto" and not fullname.startswith("moto."):
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


_finder = _Finder()


def install(now: Callable[[], float]) -> None:
    """From here on moto's modules are adapted; `now` tells the time outside of a moment. Idempotent."""
    _Present.now = staticmethod(now)
    if _finder in sys.meta_path:
        return
    sys.meta_path.insert(0, _finder)
    for name, module in list(sys.modules.items()):
        if name == "moto" or name.startswith("moto."):
            _adapt(module)
    _record_key_pairs()


def _record_key_pairs() -> None:
    """Key pairs made within a moment go over its tape; all others are made as ever."""
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    def recording(generate: Callable[..., Any]) -> Callable[..., Any]:
        def generated(*args: Any, **kwargs: Any) -> Any:
            at = moment.current()
            if at is None:
                return generate(*args, **kwargs)

            def make() -> bytes:
                key = generate(*args, **kwargs)
                octets: bytes = key.private_bytes(
                    serialization.Encoding.DER,
                    serialization.PrivateFormat.PKCS8,
                    serialization.NoEncryption(),
                )
                return octets

            return serialization.load_der_private_key(at.recorded(make), password=None)

        return generated

    rsa.generate_private_key = recording(rsa.generate_private_key)
    ec.generate_private_key = recording(ec.generate_private_key)
    ed25519.Ed25519PrivateKey.generate = staticmethod(  # type: ignore[method-assign]
        recording(ed25519.Ed25519PrivateKey.generate)
    )
    serial = x509.random_serial_number

    def serial_number() -> int:
        return serial() if moment.current() is None else int.from_bytes(moment.octets(20), "big") >> 1

    x509.random_serial_number = serial_number


@adapter("moto.moto_api._internal.moto_random")
def _seeded_identifiers(module: Any) -> None:
    module.MotoRandom.random = _Random.random
    module.MotoRandom.getrandbits = _Random.getrandbits
    module.MotoRandom._randbelow = real_random.Random._randbelow_with_getrandbits  # type: ignore[attr-defined]


@adapter("moto.core.common_models")
def _untracked_instances(module: Any) -> None:
    # moto keeps every object it ever made, deleted ones too, for a dashboard that is not served here.
    module.BaseModel.__new__ = lambda cls, *args, **kwargs: object.__new__(cls)


@adapter("moto.ec2.models.vpcs")
def _endpoint_services(module: Any) -> None:
    # moto makes AWS's own endpoint services once in a process, whoever asks first; so they must not depend on
    # that.
    backend = module.VPCBackend
    collect = backend._collect_default_endpoint_services

    def collected(account_id: str, region: str) -> Any:
        seed = hashlib.sha256(f"endpoint services of {region}".encode()).digest()
        with moment.within(moment.Moment(_time(), seed)):
            # Those whose Python packages are not installed have no endpoints here.
            services = module.IMPLEMENTED_ENDPOINT_SERVICES
            services[:] = [name for name in services if _importable(f"moto.{name}.models")]
            try:
                return collect(account_id, region)
            except BaseException:
                # moto has noted the Region as done before it began.
                module.DEFAULT_VPC_ENDPOINT_SERVICES.pop(region, None)
                raise

    backend._collect_default_endpoint_services = staticmethod(collected)


def _importable(name: str) -> bool:
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        return False
    return True

"""moto in this process: which of its handlers serves a request, and the state it keeps.

moto's state is global to the process, so there is one `Engine` at a time. It is used from one thread only.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import logging
import re
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import urlsplit

from lambay.neighbours import adapt, models, moment, objects
from lambay.neighbours import kms_keys as _kms_keys  # noqa: F401  (adapts KMS)
from lambay.neighbours import topics as _topics  # noqa: F401  (adapts SNS)
from lambay.neighbours.bodies import Bodies
from lambay.neighbours.journal import Birth, Entry, Recorded, content_of
from lambay.neighbours.moment import Moment

log = logging.getLogger(__name__)

Handler = Callable[[Any, str, Any], Any]


# What AWS's own KMS keys are among the births, before their alias.
_DEFAULT_KEY = "kms key "


class Unsupported(Exception):
    """moto lacks the service or the operation; the text says which."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What moto answered: `headers` lower-cased, `body` whole, or still on disk where it is an object's."""

    status: int
    headers: dict[str, str]
    body: bytes | objects.OnDisk

    @property
    def successful(self) -> bool:
        return 200 <= self.status < 300


@dataclass(frozen=True, slots=True)
class Place:
    """moto's module of a service, the host name by which it knows itself, and the name requests are signed
    for.
    """

    module: str
    host: str
    signing_name: str


class Births:
    """When each service came to be in each account and Region, and the moment it is (re)made in."""

    def __init__(self, origin: bytes, known: Iterable[Birth], now: Callable[[], float]) -> None:
        self._origin = origin
        self._hours = {(birth.module, birth.account, birth.region): birth.time for birth in known}
        self._now = now
        # Lookups beside moto's thread may touch a backend first.
        self._lock = threading.Lock()
        self._fresh: list[Birth] = []

    def moment(self, module: str, account: str, region: str) -> Moment:
        at = moment.current()
        time = self._hours.get((module, account, region))
        if time is None:
            time = self._now() if at is None else at.time
        seed = hashlib.sha256(self._origin + "/".join((module, account, region)).encode()).digest()
        return Moment(time, seed)

    def born(self, module: str, account: str, region: str, time: float) -> None:
        key = (module, account, region)
        with self._lock:
            if key not in self._hours:
                self._hours[key] = time
                self._fresh.append(Birth(*key, time))

    def default_keys(self) -> list[tuple[str, str, str]]:
        """Account, Region and alias of AWS's own KMS keys that somebody has asked for."""
        return [
            (account, region, module.removeprefix(_DEFAULT_KEY))
            for module, account, region in self._hours
            if module.startswith(_DEFAULT_KEY)
        ]

    def take_fresh(self) -> list[Birth]:
        """The births since the last call, which are not durable yet."""
        with self._lock:
            fresh, self._fresh = self._fresh, []
        return fresh


class Engine:
    """`now` is the clock's time in seconds since the epoch."""

    _running: ClassVar[Engine | None] = None

    def __init__(
        self, bodies: Bodies, origin: bytes, births: Iterable[Birth], now: Callable[[], float]
    ) -> None:
        if Engine._running is not None:
            raise RuntimeError("moto's state belongs to the process: close the other Neighbours first")
        adapt.install(now)
        self._bodies = bodies
        self.births = Births(origin, births, now)
        self._places: dict[tuple[str, str, str], Place] = {}
        self._routes: dict[tuple[str, str], list[tuple[re.Pattern[str], Handler]]] = {}
        objects.StoredBody.bodies = bodies
        importlib.import_module("moto")
        from moto import settings
        from moto.core.config import default_user_config

        settings.INITIAL_NO_AUTH_ACTION_COUNT = float("inf")
        default_user_config["iam"]["load_aws_managed_policies"] = True
        forget()
        Engine._running = self

    def close(self) -> None:
        """Forget all state; another engine may be made."""
        forget()
        Engine._running = None

    def make_default_keys(self) -> None:
        """AWS's own KMS keys that were there before are there again, to be asked for by their ids as well."""
        for account, region, alias in self.births.default_keys():
            from moto.kms.models import kms_backends

            kms_backends[account][region].get_key_id_from_alias(alias)

    def known_place(self, service: str, account: str, region: str) -> Place | None:
        """What `place` has found before; unlike it, quick and safe on any thread."""
        return self._places.get((service, account, region))

    def place(self, service: str, account: str, region: str) -> Place:
        """Where moto serves botocore's `service`. Imports the service, which may take a second.

        Raises Unsupported where moto lacks it.
        """
        key = (service, account, region)
        if key not in self._places:
            self._places[key] = _place(*key)
        return self._places[key]

    def run(self, module: str, recorded: Recorded, at: Moment | None, body: bytes) -> Answer:
        """Let moto answer `recorded`, whose body is `body`, in the moment `at` (None for a read).

        Raises Unsupported; any other exception is moto's own defect.
        """
        handler = self._route(module, recorded.host, recorded.url)
        from moto.core.request import Request
        from werkzeug.exceptions import HTTPException

        request: Any
        if module == "s3":
            # Handed over as it is: werkzeug would copy a large object through a stream, piece by piece.
            request = Request.from_primitives(recorded.method, recorded.url, recorded.headers)
            request.environ["CONTENT_LENGTH"] = str(len(body))
            request._cached_data = body
        else:
            request = Request.from_primitives(recorded.method, recorded.url, recorded.headers, body)
        with moment.within(at):
            try:
                result = handler(request, request.raw_url, request.headers)
            except HTTPException as error:
                result = error.code, dict(error.get_headers()), error.get_body()
            except NotImplementedError as error:
                raise Unsupported(str(error) or "The operation is not implemented.") from error
        return _answer(result)

    def replay(self, entry: Entry) -> Answer:
        """Run `entry` as it ran then."""
        content = content_of(entry.request)
        body = self._bodies.read(content) if content.pieces else entry.request.body
        at = Moment(entry.time, entry.seed, list(entry.tape), replay=True)
        if content.pieces:
            at.body = objects.Carried(content, body)
        return self.run(entry.module, entry.request, at, body)

    def _route(self, module: str, host: str, url: str) -> Handler:
        path = urlsplit(url).path or "/"
        for pattern, handler in self._routes_of(module, host):
            if pattern.match(path):
                return handler
        raise Unsupported(f"The service {module} has nothing at {path}.")

    def _routes_of(self, module: str, host: str) -> list[tuple[re.Pattern[str], Handler]]:
        """What `host` serves.

        Host and path are matched apart: moto's patterns for hosts run on into the path.
        """
        key = (module, host)
        if key not in self._routes:
            urls = _urls(module)
            served = any(re.fullmatch(base, f"https://{host}") for base in urls.url_bases)
            self._routes[key] = [
                (re.compile(path.format("")), handler) for path, handler in urls.url_paths.items() if served
            ]
        return self._routes[key]


def _place(service: str, account: str, region: str) -> Place:
    from botocore.exceptions import UnknownServiceError
    from moto.backend_index import backend_url_patterns

    module = {"lambda": "awslambda", "neptune": "rds"}.get(service, service.replace("-", ""))
    try:
        model = models.service_model(service)
    except UnknownServiceError:
        raise Unsupported(f"The service {service} is not implemented.") from None
    # Session credentials are Lambay's own: they have to survive a restart.
    if service == "sts" or all(name != module for name, _ in backend_url_patterns):
        raise Unsupported(f"The service {service} is not implemented.")
    prefix = str(model.endpoint_prefix)
    names = dict.fromkeys((prefix, module, f"api.{prefix}", f"{account}.{prefix}"))
    hosts = [
        f"{name}.{domain}"
        for name in names
        for domain in (f"{region}.amazonaws.com", "amazonaws.com", f"{region}.api.aws")
    ]
    bases = [re.compile(base) for base in _urls(module).url_bases]
    for host in hosts:
        if any(base.fullmatch(f"https://{host}") for base in bases):
            return Place(module, host, str(model.signing_name))
    raise Unsupported(f"The service {service} is not available in {region}.")


def moto_version() -> str:
    return importlib.metadata.version("moto")


def _urls(module: str) -> Any:
    try:
        return importlib.import_module(f"moto.{module}.urls")
    except ModuleNotFoundError as missing:
        raise Unsupported(
            f"The service {module} needs the Python package {missing.name}, which is not installed "
            f"(pip install 'moto[{module}]')."
        ) from None


def _answer(result: Any) -> Answer:
    status, headers, body = result if len(result) == 3 else (200, {}, result)
    if isinstance(body, str):
        body = body.encode()
    return Answer(
        int(status),
        {str(name).lower(): str(value) for name, value in dict(headers).items()},
        body if isinstance(body, objects.OnDisk) else bytes(body or b""),
    )


def forget() -> None:
    """Empty moto."""
    from moto.core.base_backend import BackendDict

    instances: list[Any] = BackendDict._instances  # type: ignore[misc]
    for instance in instances:
        instance.clear()
        if hasattr(instance, "bucket_accounts"):
            instance.bucket_accounts.clear()
    instances.clear()


@adapt.adapter("moto.core.base_backend")
def _reproducible_births(module: Any) -> None:
    """A backend makes its defaults (a VPC, its subnets) when first touched, maybe by a read.

    Always the same ones. What holds an account's backends draws an id of its own, which nobody sees: outside
    of the request's moment, since a replay may touch the account in another request first.
    """
    make = module.AccountSpecificBackend.__getitem__
    begin = module.AccountSpecificBackend.__init__

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        with moment.within(None):
            begin(self, *args, **kwargs)

    def getitem(self: Any, region: str) -> Any:
        name = "aws" if region == "global" else region
        engine = Engine._running
        if engine is None or name in self.keys():
            return make(self, region)
        at = engine.births.moment(self.service_name, self.account_id, name)
        with moment.within(at):
            backend = make(self, region)
        engine.births.born(self.service_name, self.account_id, name, at.time)
        return backend

    module.AccountSpecificBackend.__getitem__ = getitem
    module.AccountSpecificBackend.__init__ = init


@adapt.adapter("moto.kms.models")
def _reproducible_default_keys(module: Any) -> None:
    """AWS's own keys (`alias/aws/elasticfilesystem`) are made when somebody first asks for one, maybe by a read:
    each account and Region always has the same one, material included.
    """
    make = module.KmsBackend._generate_default_keys

    def generate(self: Any, alias: str) -> Any:
        engine = Engine._running
        if engine is None:
            return make(self, alias)
        at = engine.births.moment(_DEFAULT_KEY + alias, self.account_id, self.region_name)
        with moment.within(at):
            made = make(self, alias)
        engine.births.born(_DEFAULT_KEY + alias, self.account_id, self.region_name, at.time)
        if made is not None:
            self.keys[made].key_manager = "AWS"
        return made

    module.KmsBackend._generate_default_keys = generate


@adapt.adapter("moto.core.responses")
def _account_as_told(module: Any) -> None:
    module.BaseResponse.get_current_account = lambda response: response.headers["x-moto-account-id"]


@adapt.adapter("moto.core.responses")
def _json_is_no_form(module: Any) -> None:
    """moto takes a JSON body for a form as well, and what it finds there for action and parameters: a message
    with `&Action=DeleteQueue` in it would delete its queue.
    """
    setup, action = module.BaseResponse.setup_class, module.BaseResponse._get_action

    def setup_class(response: Any, *args: Any, **kwargs: Any) -> None:
        setup(response, *args, **kwargs)
        if response.headers.get("x-amz-target"):
            response.querystring = response.data = {}

    def get_action(response: Any) -> Any:
        # Asked within setup_class already.
        target = response.headers.get("x-amz-target")
        return target.rpartition(".")[2] if target else action(response)

    module.BaseResponse.setup_class, module.BaseResponse._get_action = setup_class, get_action

"""Which service and operation a request is for.

Asked in this order: the SigV4 credential scope, the host name, `X-Amz-Target`, a form's `Action` and
`Version`, the path. Services that share a signing name are told apart by target, version or path. What is
left over is S3's, whose anonymous requests name nothing at all.
"""

from __future__ import annotations

import asyncio
import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn
from urllib.parse import parse_qsl, unquote

from lambay.api import actions, catalogue, model, uris
from lambay.api.catalogue import Catalogue, Entry
from lambay.api.model import Operation, ServiceModel
from lambay.aws import AWSError
from lambay.http import Request

_REGION = re.compile(r"^(?:[a-z]{2}(?:-[a-z]+)+-\d+|aws-global)$")
_RPC_PATH = re.compile(r"^(?:/.*)?/service/([^/]+)/operation/([^/]+)$")
_DATED_PATH = re.compile(r"^/\d{4}-\d{2}-\d{2}/")
_SCOPE_REGION = re.compile(r"^[a-z0-9-]{1,63}$")
_BUCKET_HOST = re.compile(r"^(?!s3\.localhost$)(.+?)\.(?:s3[.-].*|localhost)$", re.IGNORECASE)
_REST = frozenset({"rest-json", "rest-xml"})
_FORMS = frozenset({"query", "ec2"})
_FORM = "application/x-www-form-urlencoded"

# Longer credentials are read each time: nobody is to fill the memory with them.
_REMEMBERED = 256


@dataclass(frozen=True, slots=True)
class Route:
    """Where a request goes.

    `operation` is the model's for owned services and None where the operation is unknown or the service a
    neighbour's; `operation_name` is empty where even the name could not be told. `action` is IAM's name.
    """

    service: str
    protocol: str
    region: str
    operation_name: str
    operation: Operation | None = None
    model: ServiceModel | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    form: Mapping[str, str] = field(default_factory=dict)

    @property
    def action(self) -> str:
        return actions.action(self.service, self.operation_name)


@dataclass(frozen=True, slots=True)
class _Scope:
    """What a credential scope or a host name says: `20240131/us-east-1/lambda/aws4_request`."""

    region: str
    signing_name: str


class Router:
    """Owned services are found by themselves.

    The catalogue of all is read when something else is asked for.
    """

    def __init__(self, owned: Iterable[str], region: str) -> None:
        self._region = region
        self._owned = {service: catalogue.entry(service) for service in owned}
        self._own = Catalogue(self._owned.values())
        self._rest = _speaking(self._owned.values(), _REST)
        self._everything: Catalogue | None = None

    async def route(self, request: Request) -> Route:
        """Raises AWSError where nothing tells what a request is for."""
        scope = _scope_of(request)
        if scope is None:
            return await self._unsigned(request)
        owned = self._own.by_signing_name.get(scope.signing_name, ())
        found = self._among(owned, request, scope.region)
        if found is not None:
            return found
        candidates = (await self._all()).by_signing_name.get(scope.signing_name, ())
        if not candidates:
            raise AWSError(
                "UnknownServiceException", f"no AWS service signs as {scope.signing_name!r}", status=404
            )
        return self._among(candidates, request, scope.region) or _refuse(request)

    async def _unsigned(self, request: Request) -> Route:
        """Requests without credentials, such as AssumeRoleWithWebIdentity or a public S3 object."""
        if _DATED_PATH.match(request.path):
            found = uris.matches(self._rest, request.method, request.path, request.query, request.headers)
            if found is not None:
                host = _host_scope(request, self._own.by_signing_name)
                return self._rest_route(found, host.region if host and host.region else self._region)
        everything = await self._all()
        scope = _host_scope(request, everything.by_signing_name)
        if scope is not None:
            named = everything.by_signing_name[scope.signing_name]
            return self._among(named, request, scope.region) or _refuse(request)
        candidates = await self._without_a_name(request, everything)
        return self._among(candidates, request, self._region) or _refuse(request)

    async def _without_a_name(self, request: Request, everything: Catalogue) -> Sequence[Entry]:
        """The services that a request may be for which says neither by signature nor by host."""
        rpc = _RPC_PATH.match(request.path) if "smithy-protocol" in request.headers else None
        prefix = rpc[1] if rpc else request.headers.get("x-amz-target", "").rpartition(".")[0]
        if prefix:
            entry = everything.by_target_prefix.get(prefix)
            return (entry,) if entry is not None else ()
        form = form_of(request)
        if "Action" in form:
            same_version = everything.by_version.get(form.get("Version", ""), ())
            return await asyncio.to_thread(_with_action, same_version, form["Action"])
        return everything.by_signing_name["s3"]

    async def _all(self) -> Catalogue:
        if self._everything is None:
            self._everything = await asyncio.to_thread(catalogue.whole)
        return self._everything

    def _among(self, candidates: Sequence[Entry], request: Request, region: str) -> Route | None:
        """The route within services that share a signing name, by what their protocols look at."""
        if not candidates:
            return None
        region = region if region not in ("", "aws-global") else self._region
        rest = _speaking(candidates, _REST)
        if len(rest) < len(candidates):
            found = self._remote_procedure(candidates, request, region)
            if found is not None:
                return found
        path = _path_style(request) if "s3" in rest else request.path
        matched = uris.matches(rest, request.method, path, request.query, request.headers)
        if matched is not None:
            return self._rest_route(matched, region)
        if not rest or not self._owned.keys().isdisjoint(rest):
            return None
        return Route(rest[0], catalogue.entry(rest[0]).protocols[0], region, "")

    def _remote_procedure(self, candidates: Sequence[Entry], request: Request, region: str) -> Route | None:
        """A call by a name that is in a header, in the path or in a form."""
        target = request.headers.get("x-amz-target")
        if target is not None:
            return self._named(candidates, target, region)
        rpc = _RPC_PATH.match(request.path) if "smithy-protocol" in request.headers else None
        if rpc is not None:
            entry = next((item for item in candidates if item.target_prefix == rpc[1]), candidates[0])
            return self._rpc_route(entry, "smithy-rpc-v2-cbor", rpc[2], region)
        speakers = [item for item in candidates if not _FORMS.isdisjoint(item.protocols)]
        form = form_of(request) if speakers else {}
        return self._query_route(speakers, form, region) if "Action" in form else None

    def _named(self, candidates: Sequence[Entry], target: str, region: str) -> Route | None:
        prefix, _, name = target.rpartition(".")
        # Old clients send a versioned prefix that the model has since shortened, or none at all.
        entry = next((item for item in candidates if item.target_prefix == prefix), None) or next(
            (item for item in candidates if "json" in item.protocols), None
        )
        return self._rpc_route(entry, "json", name, region) if entry is not None else None

    def _rpc_route(self, entry: Entry, protocol: str, name: str, region: str) -> Route:
        if entry.service not in self._owned:
            return Route(entry.service, protocol, region, name)
        service = model.load(entry.service)
        return Route(entry.service, protocol, region, name, service.operation(name), service)

    def _query_route(self, candidates: Sequence[Entry], form: Mapping[str, str], region: str) -> Route:
        version, name = form.get("Version", ""), form["Action"]
        entry = next((item for item in candidates if item.version == version), candidates[0])
        protocol = "ec2" if "ec2" in entry.protocols else "query"
        if entry.service not in self._owned:
            return Route(entry.service, protocol, region, name, form=form)
        service = model.load(entry.service)
        return Route(entry.service, protocol, region, name, service.operation(name), service, form=form)

    def _rest_route(self, found: tuple[str, Operation, dict[str, str]], region: str) -> Route:
        service, operation, labels = found
        protocol = next(item for item in operation.service.protocols if item.startswith("rest"))
        return Route(service, protocol, region, operation.name, operation, operation.service, labels)


def form_of(request: Request) -> dict[str, str]:
    """The parameters of a query-protocol request, from the URL and from a form body."""
    form = dict(parse_qsl(request.query, keep_blank_values=True)) if "Action=" in request.query else {}
    if request.body and request.headers.get("content-type", "").startswith(_FORM):
        form |= parse_qsl(request.body.decode(errors="replace"), keep_blank_values=True)
    return form


def _scope_of(request: Request) -> _Scope | None:
    authorization = request.headers.get("authorization")
    if authorization is not None:
        _, found, credential = authorization.partition("Credential=")
        if found:
            text = credential.partition(",")[0].strip()
            return _known_scope(text) if len(text) <= _REMEMBERED else _parse_scope(text)
        return _Scope("", "s3") if authorization.startswith("AWS ") else None
    if "X-Amz-Credential=" in request.query:
        credential = dict(parse_qsl(request.query)).get("X-Amz-Credential", "")
        return _parse_scope(credential)
    if "AWSAccessKeyId=" in request.query and "Signature=" in request.query:
        return _Scope("", "s3")
    return None


def _parse_scope(credential: str) -> _Scope | None:
    """`AKID/20240131/us-east-1/lambda/aws4_request`; SigV4a's has no region. Access keys hold no slash."""
    parts = credential.split("/")
    if len(parts) >= 5:
        if not _SCOPE_REGION.match(parts[-3]):
            text = f"Credential should be scoped to a valid Region, not {parts[-3]!r}."
            raise AWSError("InvalidSignatureException", text, status=400)
        return _Scope(parts[-3], parts[-2])
    return _Scope("", parts[2]) if len(parts) == 4 else None


_known_scope = functools.lru_cache(1024)(_parse_scope)


def _host_scope(request: Request, names: Mapping[str, object]) -> _Scope | None:
    """`lambda.us-east-1.amazonaws.com`, `sts.localhost`, `bucket.s3.eu-west-1.localhost:4566`."""
    labels = request.headers.get("host", "").rpartition("@")[2].partition(":")[0].lower().split(".")
    for position, label in enumerate(labels[:-1]):
        if label in names:
            region = next((item for item in labels[position + 1 :] if _REGION.match(item)), "")
            return _Scope(region, label)
    return None


def _path_style(request: Request) -> str:
    """S3's path with the bucket that the host name may have: `bucket.s3.us-east-1.localhost`,
    `bucket.localhost`.
    """
    host = request.headers.get("host", "").partition(":")[0]
    found = _BUCKET_HOST.match(host)
    return f"/{found[1]}{request.path}" if found is not None else request.path


def _with_action(entries: Sequence[Entry], action: str) -> tuple[Entry, ...]:
    """Services of one API version that have an operation of this name."""
    if len(entries) < 2:
        return tuple(entries)
    return tuple(item for item in entries if action in model.load(item.service).operation_names)


def _speaking(entries: Iterable[Entry], protocols: frozenset[str]) -> list[str]:
    """The services among `entries` that speak one of `protocols`."""
    return [item.service for item in entries if not protocols.isdisjoint(item.protocols)]


def _refuse(request: Request) -> NoReturn:
    where = f"{request.method} {unquote(request.path)}"
    raise AWSError("UnknownOperationException", f"no operation is known at {where}", status=404)

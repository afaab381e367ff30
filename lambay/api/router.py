"""Which service and operation a request is for.

Asked in this order: the SigV4 credential scope, the host name, `X-Amz-Target`, a form's `Action` and
`Version`, the path. Services that share a signing name are told apart by target, version or path. What is
left over is S3's, whose anonymous requests name nothing at all.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, unquote

from lambay.api import actions, catalogue, model, uris
from lambay.api.catalogue import Entry
from lambay.api.model import Operation, ServiceModel
from lambay.aws import AWSError
from lambay.http import Request

_REGION = re.compile(r"^(?:[a-z]{2}(?:-[a-z]+)+-\d+|aws-global)$")
_RPC_PATH = re.compile(r"^(?:/.*)?/service/([^/]+)/operation/([^/]+)$")
_DATED_PATH = re.compile(r"^/\d{4}-\d{2}-\d{2}/")
_SCOPE_REGION = re.compile(r"^[a-z0-9-]{1,63}$")
_BUCKET_HOST = re.compile(r"^(?!s3\.localhost$)(.+?)\.(?:s3[.-].*|localhost)$", re.IGNORECASE)
_FORM = "application/x-www-form-urlencoded"


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
    """Owned services are found without the catalogue of all.

    That is read when something else is asked for.
    """

    def __init__(self, owned: Iterable[str], region: str) -> None:
        self._region = region
        self._owned = {service: catalogue.entry(service) for service in owned}
        self._by_signing_name: dict[str, tuple[Entry, ...]] = {}
        self._by_target: dict[str, Entry] = {}
        for entry in self._owned.values():
            for name in {entry.signing_name, entry.endpoint_prefix}:
                self._by_signing_name[name] = (*self._by_signing_name.get(name, ()), entry)
            if entry.target_prefix:
                self._by_target[entry.target_prefix] = entry
        self._rest = [
            name
            for name, entry in self._owned.items()
            if any(item.startswith("rest") for item in entry.protocols)
        ]

    async def route(self, request: Request) -> Route:
        """Raises AWSError where nothing tells what a request is for."""
        scope = _scope_of(request)
        if scope is not None:
            owned = self._by_signing_name.get(scope.signing_name, ())
            found = self._among(owned, request, scope.region) if owned else None
            if found is not None:
                return found
            everything = await asyncio.to_thread(catalogue.whole)
            candidates = everything.by_signing_name.get(scope.signing_name, ())
            found = self._among(candidates, request, scope.region)
            if found is not None:
                return found
            if owned or candidates:
                raise _unknown_operation(request)
            raise AWSError(
                "UnknownServiceException", f"no AWS service signs as {scope.signing_name!r}", status=404
            )
        return await self._unsigned(request)

    async def _unsigned(self, request: Request) -> Route:
        """Requests without credentials, such as AssumeRoleWithWebIdentity or a public S3 object."""
        target = request.headers.get("x-amz-target", "")
        rpc = _RPC_PATH.match(request.path)
        form = form_of(request)
        if not target and not rpc and "Action" not in form:
            labelled = (
                uris.matches(self._rest, request.method, request.path, request.query, request.headers)
                if _DATED_PATH.match(request.path)
                else None
            )
            if labelled is not None:
                host = _host_scope(request, self._by_signing_name)
                return self._rest_route(labelled, host.region if host and host.region else self._region)
        everything = await asyncio.to_thread(catalogue.whole)
        scope = _host_scope(request, everything.by_signing_name)
        if scope is not None:
            candidates = everything.by_signing_name[scope.signing_name]
        elif target or rpc:
            prefix = rpc[1] if rpc else target.rpartition(".")[0]
            entry = everything.by_target_prefix.get(prefix)
            candidates = (entry,) if entry is not None else ()
        elif "Action" in form:
            candidates = await asyncio.to_thread(
                _with_action, everything.by_version.get(form.get("Version", ""), ()), form["Action"]
            )
        else:
            candidates = everything.by_signing_name["s3"]
        found = self._among(candidates, request, scope.region if scope is not None else self._region)
        if found is None:
            raise _unknown_operation(request)
        return found

    def _among(self, candidates: Sequence[Entry], request: Request, region: str) -> Route | None:
        """The route within services that share a signing name."""
        if not candidates:
            return None
        region = region if region not in ("", "aws-global") else self._region
        target = request.headers.get("x-amz-target")
        if target is not None:
            return self._named(candidates, target, request, region)
        rpc = _RPC_PATH.match(request.path) if "smithy-protocol" in request.headers else None
        if rpc is not None:
            entry = next((item for item in candidates if item.target_prefix == rpc[1]), candidates[0])
            return self._rpc_route(entry, "smithy-rpc-v2-cbor", rpc[2], region)
        form = form_of(request)
        if "Action" in form:
            return self._query_route(candidates, form, region)
        rest = [
            item.service for item in candidates if any(name.startswith("rest") for name in item.protocols)
        ]
        path = _path_style(request) if "s3" in rest else request.path
        found = uris.matches(rest, request.method, path, request.query, request.headers)
        if found is not None:
            return self._rest_route(found, region)
        if not rest or not self._owned.keys().isdisjoint(rest):
            return None
        return Route(rest[0], catalogue.entry(rest[0]).protocols[0], region, "")

    def _named(self, candidates: Sequence[Entry], target: str, request: Request, region: str) -> Route | None:
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
            return _parse_scope(credential.partition(",")[0].strip())
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


def _unknown_operation(request: Request) -> AWSError:
    where = f"{request.method} {unquote(request.path)}"
    return AWSError("UnknownOperationException", f"no operation is known at {where}", status=404)

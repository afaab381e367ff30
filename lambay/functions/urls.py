"""Function URLs: their configurations, and the door that answers them.

A URL is `http://HOST:PORT/_lambay/url/ID/`, which every client can reach without a name server of its own.
"""

from __future__ import annotations

import secrets
import string
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from lambay.aws import AWSError, Call, Principal
from lambay.functions import url_events, url_streams
from lambay.functions.errors import conflict, function_not_found, missing
from lambay.functions.invoking import Invoker
from lambay.functions.names import FunctionName, parse
from lambay.functions.pagination import page, paged
from lambay.functions.permissions import PermissionOperations
from lambay.functions.records import Cors, FunctionUrl
from lambay.functions.rendering import iso_timestamp
from lambay.functions.streams import Streams
from lambay.http import Request, Response
from lambay.runtime import Invocation

PREFIX = "/_lambay/url/"
_ID_LETTERS = string.ascii_lowercase + string.digits

# What a caller of a URL has to be allowed, and the condition keys of such a call.
URL_ACTIONS = ("lambda:InvokeFunctionUrl", "lambda:InvokeFunction")
AUTH_TYPE_KEY = "lambda:FunctionUrlAuthType"
URL_KEYS = {"lambda:InvokedViaFunctionUrl": "true"}

# Who signed a request, where that principal may call the URL of this function's ARN; raises AWSError else.
Admit = Callable[[Request, str], Awaitable[Principal]]


class UrlOperations(PermissionOperations):
    """See "Creating and managing Lambda function URLs" in the Developer Guide."""

    _invoker: Invoker
    _streams: Streams
    _endpoint: str

    async def create_function_url_config(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        name = self._url_target(call, input)
        async with self._resources.exclusive(name.key):
            self._check_url_target(name)
            if self._url_config(name) is not None:
                raise conflict(
                    f"Failed to create function url config for [functionArn = {name.given_arn}]. "
                    "Error message:  FunctionUrlConfig exists for this Lambda function"
                )
            now = self._room.clock.now()
            url = FunctionUrl(
                account=name.account,
                region=name.region,
                function=name.name,
                qualifier=name.qualifier or "",
                url_id="".join(secrets.choice(_ID_LETTERS) for _ in range(32)),
                auth_type=input["AuthType"],
                created=now,
                last_modified=now,
                cors=_cors(input.get("Cors")),
                invoke_mode=input.get("InvokeMode") or "BUFFERED",
            )
            await self._resources.commit(self._resources.urls.put(url.key, url))
        shown = self._url_shown(url, call)
        shown.pop("LastModifiedTime")
        return shown

    async def get_function_url_config(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        return self._url_shown(self._existing_url(call, input), call)

    async def update_function_url_config(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        url = self._existing_url(call, input)
        changes: dict[str, Any] = {"last_modified": self._room.clock.now()}
        if input.get("AuthType"):
            changes["auth_type"] = input["AuthType"]
        if input.get("InvokeMode"):
            changes["invoke_mode"] = input["InvokeMode"]
        if input.get("Cors") is not None:
            changes["cors"] = _cors(input["Cors"])
        changed = msgspec.structs.replace(url, **changes)
        await self._resources.commit(self._resources.urls.put(changed.key, changed))
        return self._url_shown(changed, call)

    async def delete_function_url_config(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        url = self._existing_url(call, input)
        await self._resources.commit(self._resources.urls.remove(url.key))
        return {}

    async def list_function_url_configs(self, call: Call, input: dict[str, Any]) -> dict[str, Any]:
        name = parse(input["FunctionName"], call)
        if name.key not in self._resources.functions:
            raise missing("Function does not exist")
        found = self._resources.urls.under(f"{name.key}/")
        taken, marker = page(found, input, key=lambda url: url.qualifier)
        return paged("FunctionUrlConfigs", [self._url_shown(url, call) for url in taken], marker)

    async def handle_url(self, request: Request, admit: Admit) -> Response:
        """The function's answer to a request under `PREFIX`; never raises AWSError."""
        url_id, _, rest = request.path.removeprefix(PREFIX).partition("/")
        url = next((known for known in self._resources.urls if known.url_id == url_id), None)
        if url is None:
            return Response(404, {"content-type": "application/json"}, b'{"Message":null}')
        if url_events.is_preflight(request, url.cors):
            assert url.cors is not None
            return Response(200, url_events.cors_headers(request, url.cors, preflight=True))
        try:
            answer = await self._answer_url(url, request, f"/{rest}", admit)
        except AWSError as error:
            answer = _refused(error)
        if url.cors is not None:
            # The configuration wins over what the function says of CORS.
            answer.headers.update(url_events.cors_headers(request, url.cors, preflight=False))
        return answer

    async def _answer_url(self, url: FunctionUrl, request: Request, path: str, admit: Admit) -> Response:
        principal: Principal | None = None
        if url.auth_type == "AWS_IAM":
            try:
                principal = await admit(request, _name(url).given_arn)
            except AWSError:
                return url_events.forbidden()
            if principal.kind == "anonymous":
                return url_events.forbidden()
        elif not self._is_public(url):
            return url_events.forbidden()
        name = _name(url)
        request_id = str(uuid.uuid4())
        made = url_events.event(
            url, request, path, request_id=request_id, now=self._room.clock.now(), principal=principal
        )
        invocation = Invocation(
            request_id=request_id,
            event=msgspec.json.encode(made),
            invoked_arn=name.given_arn,
            trace_id=request.headers.get("x-amzn-trace-id"),
        )
        target = await self._invoker.target_of(name)
        if url.invoke_mode == "RESPONSE_STREAM":
            answer = await url_streams.response(await self._streams.open(target, invocation))
            answer.headers.setdefault("x-amzn-requestid", request_id)
            return answer
        invoked = await self._invoker.run(target, invocation)
        if invoked.outcome.error is not None:
            return url_events.bad_gateway()
        answer = url_events.response(invoked.outcome.payload)
        answer.headers.setdefault("x-amzn-requestid", request_id)
        return answer

    def _is_public(self, url: FunctionUrl) -> bool:
        """Whether the policy lets everybody call the URL: auth type NONE alone does not.

        Since October 2025 two actions are needed; see "Control access to Lambda function URLs".
        """
        function = _name(url).given_arn
        policy = self.resource_policy(function)
        return all(
            self._room.access.anybody_may(action, function, policy, {**URL_KEYS, AUTH_TYPE_KEY: "NONE"})
            for action in URL_ACTIONS
        )

    def _url_target(self, call: Call, input: dict[str, Any]) -> FunctionName:
        name = parse(input["FunctionName"], call, input.get("Qualifier"))
        self._check_url_target(name)
        return name

    def _check_url_target(self, name: FunctionName) -> None:
        """Raises ResourceNotFoundException."""
        if name.key not in self._resources.functions:
            raise missing("Function does not exist")
        if name.qualifier is not None and self._resources.alias(name, name.qualifier) is None:
            raise function_not_found(name.given_arn)

    def _url_config(self, name: FunctionName) -> FunctionUrl | None:
        return self._resources.urls.get(f"{name.key}/{name.qualifier or ''}")

    def _existing_url(self, call: Call, input: dict[str, Any]) -> FunctionUrl:
        url = self._url_config(parse(input["FunctionName"], call, input.get("Qualifier")))
        if url is None:
            raise missing("The resource you requested does not exist.")
        return url

    def _url_shown(self, url: FunctionUrl, call: Call) -> dict[str, Any]:
        host = call.headers.get("host")
        base = f"{call.headers.get('x-forwarded-proto', 'http')}://{host}" if host else self._endpoint
        shown: dict[str, Any] = {
            "FunctionUrl": f"{base}{PREFIX}{url.url_id}/",
            "FunctionArn": _name(url).given_arn,
            "AuthType": url.auth_type,
            "CreationTime": iso_timestamp(url.created),
            "LastModifiedTime": iso_timestamp(url.last_modified),
            "InvokeMode": url.invoke_mode,
        }
        if url.cors is not None:
            shown["Cors"] = _cors_shown(url.cors)
        return shown


def _name(url: FunctionUrl) -> FunctionName:
    return FunctionName(url.account, url.region, url.function, url.qualifier or None)


def _cors(given: dict[str, Any] | None) -> Cors | None:
    if not given:
        return None
    return Cors(
        credentials=bool(given.get("AllowCredentials", False)),
        headers=tuple(given.get("AllowHeaders") or ()),
        methods=tuple(given.get("AllowMethods") or ()),
        origins=tuple(given.get("AllowOrigins") or ()),
        expose_headers=tuple(given.get("ExposeHeaders") or ()),
        max_age=given.get("MaxAge") or 0,
    )


def _cors_shown(cors: Cors) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "AllowHeaders": list(cors.headers),
        "AllowMethods": list(cors.methods),
        "AllowOrigins": list(cors.origins),
        "ExposeHeaders": list(cors.expose_headers),
        "MaxAge": cors.max_age,
    }
    shown = {member: value for member, value in shown.items() if value}
    if cors.credentials:
        shown["AllowCredentials"] = True
    return shown


def _refused(error: AWSError) -> Response:
    """429 with its reason, else 502: a caller of the URL is not told of Lambda's own states."""
    if error.code != "TooManyRequestsException":
        return url_events.bad_gateway()
    body = {"Reason": error.members.get("Reason"), "Type": "User", "message": error.message}
    return Response(
        429,
        {"content-type": "application/json", "retry-after": "1", "x-amzn-errortype": error.code},
        msgspec.json.encode(body),
    )

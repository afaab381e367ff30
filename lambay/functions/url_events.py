"""Function URLs' HTTP: a request as the function's event, the function's answer as a response, and CORS.

Payload format 2.0; see "Invoking Lambda function URLs" in the Developer Guide. Pure: values in, values out.
"""

from __future__ import annotations

import base64
import binascii
import itertools
import json
import urllib.parse
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from lambay.aws import Principal
from lambay.functions.records import Cors, FunctionUrl
from lambay.http import Request, Response

_TEXTUAL = (
    "text/",
    "application/json",
    "application/xml",
    "application/javascript",
    "application/x-www-form",
)
_BAD_GATEWAY = b'{"Message":"Internal Server Error"}'


def event(
    url: FunctionUrl,
    request: Request,
    path: str,
    *,
    request_id: str,
    now: datetime,
    principal: Principal | None,
) -> dict[str, Any]:
    """The event of a request for `path` (as sent, after the URL's own part)."""
    headers = {name: value for name, value in request.headers.items() if name != "cookie"}
    body, encoded = _body(request)
    context: dict[str, Any] = {
        "accountId": principal.account if principal else "anonymous",
        "apiId": url.url_id,
        "domainName": request.headers.get("host", ""),
        "domainPrefix": url.url_id,
        "http": {
            "method": request.method,
            "path": path,
            "protocol": "HTTP/1.1",
            "sourceIp": request.source_ip,
            "userAgent": request.headers.get("user-agent", ""),
        },
        "requestId": request_id,
        "routeKey": "$default",
        "stage": "$default",
        "time": now.strftime("%d/%b/%Y:%H:%M:%S +0000"),
        "timeEpoch": int(now.timestamp() * 1000),
    }
    if principal is not None:
        context["authorizer"] = {
            "iam": {
                "accessKey": principal.access_key_id,
                "accountId": principal.account,
                "callerId": principal.user_id,
                "cognitoIdentity": None,
                "principalOrgId": None,
                "userArn": principal.arn,
                "userId": principal.user_id,
            }
        }
    made: dict[str, Any] = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": request.query,
        "headers": headers,
        "requestContext": context,
        "isBase64Encoded": encoded,
    }
    if "cookie" in request.headers:
        made["cookies"] = [cookie.strip() for cookie in request.headers["cookie"].split(";")]
    if request.query:
        given = urllib.parse.parse_qs(request.query, keep_blank_values=True)
        made["queryStringParameters"] = {name: ",".join(values) for name, values in given.items()}
    if body:
        made["body"] = body
    return made


def _body(request: Request) -> tuple[str, bool]:
    """The body as text, or in base64 and True."""
    kind = request.headers.get("content-type", "")
    if kind.startswith(_TEXTUAL) or not kind:
        try:
            return request.body.decode(), False
        except UnicodeDecodeError:
            pass
    return base64.b64encode(request.body).decode(), bool(request.body)


def response(payload: bytes) -> Response:
    """What the function returned, as it is told to be answered; 502 for what can't be."""
    try:
        answer = json.loads(payload or b"null")
    except ValueError:
        return bad_gateway()
    if not isinstance(answer, dict) or "statusCode" not in answer:
        body = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
        return Response(200, {"content-type": "application/json"}, body)
    try:
        body = _answered_body(answer)
        status = int(answer["statusCode"])
        given: Mapping[str, Any] = answer.get("headers") or {}
        headers = {str(name).lower(): str(value) for name, value in given.items()}
    except (ValueError, TypeError, AttributeError, binascii.Error):
        return bad_gateway()
    if not 100 <= status <= 599:
        return bad_gateway()
    headers.setdefault("content-type", "application/json")
    headers.update(set_cookies([str(cookie) for cookie in answer.get("cookies") or ()]))
    return Response(status, headers, body)


def _answered_body(answer: Mapping[str, Any]) -> bytes:
    body = answer.get("body")
    if body is None:
        return b""
    if answer.get("isBase64Encoded"):
        return base64.b64decode(body, validate=True)
    return body.encode() if isinstance(body, str) else json.dumps(body).encode()


def set_cookies(cookies: Sequence[str]) -> dict[str, str]:
    """One header each, told apart by spelling: they can't be joined (RFC 6265, section 3)."""
    spellings = itertools.product(*((letter, letter.upper()) for letter in "setcookie"))
    names = ("".join(letters[:3]) + "-" + "".join(letters[3:]) for letters in spellings)
    return dict(zip(names, cookies, strict=False))


def bad_gateway() -> Response:
    return Response(502, {"content-type": "application/json"}, _BAD_GATEWAY)


def forbidden() -> Response:
    return Response(
        403,
        {"content-type": "application/json", "x-amzn-errortype": "AccessDeniedException"},
        b'{"Message":"Forbidden"}',
    )


def is_preflight(request: Request, cors: Cors | None) -> bool:
    return (
        cors is not None
        and request.method == "OPTIONS"
        and "origin" in request.headers
        and "access-control-request-method" in request.headers
    )


def cors_headers(request: Request, cors: Cors, *, preflight: bool) -> dict[str, str]:
    """The headers for this request's origin; none where the origin is not allowed (Fetch standard, 3.2)."""
    origin = request.headers.get("origin", "")
    if not origin or not _allows(cors.origins, origin):
        return {}
    anybody = "*" in cors.origins and not cors.credentials
    headers = {"access-control-allow-origin": "*" if anybody else origin}
    if not anybody:
        headers["vary"] = "Origin"
    if cors.credentials:
        headers["access-control-allow-credentials"] = "true"
    if cors.expose_headers and not preflight:
        headers["access-control-expose-headers"] = ",".join(cors.expose_headers)
    if preflight:
        if cors.methods:
            headers["access-control-allow-methods"] = ",".join(cors.methods)
        if cors.headers:
            headers["access-control-allow-headers"] = ",".join(cors.headers)
        if cors.max_age:
            headers["access-control-max-age"] = str(cors.max_age)
    return headers


def _allows(origins: tuple[str, ...], origin: str) -> bool:
    return "*" in origins or origin in origins

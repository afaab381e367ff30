"""How a command reaches the running server: the endpoint, the credentials, and errors worth reading."""

from __future__ import annotations

import argparse
import http.client
import json
import os
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from typing import Any

DEFAULT_ENDPOINT = "http://127.0.0.1:4566"


class CommandError(Exception):
    """A command failed; the text is for the person who ran it."""


def add_endpoint(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--endpoint",
        type=_url,
        default=os.environ.get("AWS_ENDPOINT_URL", DEFAULT_ENDPOINT),
        help="the server's URL (AWS_ENDPOINT_URL; default %(default)s)",
    )
    parser.add_argument(
        "--region",
        default=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1",
        help="Region (AWS_REGION; default %(default)s)",
    )


def _url(text: str) -> str:
    parts = urllib.parse.urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise argparse.ArgumentTypeError(f"{text!r} is not a URL such as {DEFAULT_ENDPOINT}")
    return text


def client(options: argparse.Namespace, service: str) -> Any:
    """A boto3 client of the server, with the environment's credentials or the root's."""
    import boto3
    from botocore.config import Config

    session = boto3.Session(region_name=options.region)
    given = session.get_credentials()
    made = session.client(
        service,
        endpoint_url=options.endpoint,
        aws_access_key_id=None if given else os.environ.get("LAMBAY_ACCESS_KEY_ID", "test"),
        aws_secret_access_key=None if given else os.environ.get("LAMBAY_SECRET_ACCESS_KEY", "test"),
        config=Config(retries={"total_max_attempts": 1}, read_timeout=960),
    )
    # One attempt is what is asked for; botocore's errors would add "(reached max retries: 0)".
    made.meta.events.register("after-call", _without_retries)
    return made


def _without_retries(parsed: dict[str, Any], **_: object) -> None:
    parsed.get("ResponseMetadata", {}).pop("MaxAttemptsReached", None)


def failure(options: argparse.Namespace, error: Exception) -> str | None:
    """What to say of an AWS client's error; None for an error that is none of its."""
    from botocore import exceptions
    from botocore.parsers import ResponseParserError

    if isinstance(error, exceptions.EndpointConnectionError):
        return f"no Lambay answers at {options.endpoint}; start one with `lambay up`"
    if isinstance(error, (exceptions.HTTPClientError, exceptions.ConnectionError)):
        return f"no Lambay answers at {options.endpoint} ({error.kwargs.get('error')})"
    if isinstance(error, ResponseParserError):
        return f"what answers at {options.endpoint} is not Lambay"
    return str(error) if isinstance(error, (exceptions.ClientError, exceptions.BotoCoreError)) else None


def function_named(options: argparse.Namespace, text: str) -> str:
    """The function that a text means: STACK/RESOURCE is the one that a stack made of its template's resource.

    Raises botocore's ClientError where there is no such stack or resource.
    """
    stack, slash, resource = text.partition("/")
    if not slash or text.startswith("arn:"):
        return text
    found = client(options, "cloudformation").describe_stack_resource(
        StackName=stack, LogicalResourceId=resource
    )
    return str(found["StackResourceDetail"]["PhysicalResourceId"])


def ask(options: argparse.Namespace, method: str, path: str, body: object = None) -> Any:
    """The parsed JSON answer of one of the server's own pages under `/_lambay/`."""
    with _open(options, method, path, body) as answer:
        text = answer.read()
    try:
        return json.loads(text) if text else None
    except ValueError:
        raise CommandError(f"what answers at {options.endpoint} is not Lambay") from None


def lines(options: argparse.Namespace, path: str) -> Iterator[Any]:
    """The JSON lines of a streamed page, each as it arrives."""
    with _open(options, "GET", path, None) as answer:
        for line in answer:
            if line.strip():
                yield json.loads(line)


def _open(options: argparse.Namespace, method: str, path: str, body: object) -> http.client.HTTPResponse:
    request = _signed(options, method, path, b"" if body is None else json.dumps(body).encode())
    try:
        return urllib.request.urlopen(request, context=_trust())  # type: ignore[no-any-return]
    except urllib.error.HTTPError as error:
        raise CommandError(_message(error)) from None
    except urllib.error.URLError as error:
        raise CommandError(
            f"no Lambay answers at {options.endpoint} ({error.reason}); start one with `lambay up`"
        ) from None
    except (OSError, http.client.HTTPException) as error:
        # Somebody listens there and does not speak as the URL says.
        raise CommandError(f"no Lambay answers at {options.endpoint} ({error})") from None


def _trust() -> ssl.SSLContext:
    """The certificates that AWS's clients would trust as well."""
    return ssl.create_default_context(cafile=os.environ.get("AWS_CA_BUNDLE") or None)


def _signed(options: argparse.Namespace, method: str, path: str, body: bytes) -> urllib.request.Request:
    """A request signed as AWS's clients sign theirs (SigV4), for the service `lambay`."""
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    key = os.environ.get("AWS_ACCESS_KEY_ID") or os.environ.get("LAMBAY_ACCESS_KEY_ID", "test")
    secret = os.environ.get("AWS_SECRET_ACCESS_KEY") or os.environ.get("LAMBAY_SECRET_ACCESS_KEY", "test")
    request = AWSRequest(
        method, options.endpoint.rstrip("/") + path, {"content-type": "application/json"}, body
    )
    token = os.environ.get("AWS_SESSION_TOKEN")
    SigV4Auth(Credentials(key, secret, token), "lambay", options.region).add_auth(request)
    return urllib.request.Request(
        request.url, method=method, data=body or None, headers=dict(request.headers)
    )


def _message(error: urllib.error.HTTPError) -> str:
    text = error.read().decode(errors="replace")
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return f"{error.code} {error.reason}: {text.strip()}"

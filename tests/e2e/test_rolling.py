"""While traffic moves to new code, a file system has the connections of both."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.e2e.arrange import PATIENCE, Deployer, Lambay, bundle

OLD = """
    def handler(event, context):
        return "old"
    """
NEW = OLD.replace("old", "new")


@pytest.fixture
def draining(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lambay]:
    """A server whose replaced environments stay for an hour."""
    monkeypatch.setenv("LAMBAY_DRAIN_SECONDS", "3600")
    server = Lambay(tmp_path / "data")
    yield server
    server.stop()


def connections(lambay: Lambay, file_system: str) -> int:
    """As the file server counts them."""
    request = AWSRequest("GET", f"{lambay.endpoint}/_lambay/live")
    SigV4Auth(Credentials("test", "test"), "lambay", "us-east-1").add_auth(request)
    with urllib.request.urlopen(
        urllib.request.Request(str(request.url), headers=dict(request.headers))
    ) as answer:
        shown = json.loads(answer.readline())["file_systems"]
    (found,) = (each["connections"] for each in shown if each["id"] == file_system)
    return int(found)


def until(lambay: Lambay, file_system: str, wanted: int) -> None:
    """Returns once the view, which is made every few seconds, shows that many connections."""
    deadline = time.monotonic() + PATIENCE
    while (found := connections(lambay, file_system)) != wanted:
        assert time.monotonic() < deadline, found
        time.sleep(0.2)


def test_old_environments_keep_their_connections_beside_the_new(draining: Lambay) -> None:
    deploy = Deployer(draining)
    file_system = deploy.file_system()
    function = deploy.function(OLD, deploy.access_point(file_system))
    assert deploy.invoke(function) == "old"
    until(draining, file_system, 1)
    deploy.lambda_.update_function_code(FunctionName=function, ZipFile=bundle(NEW))
    deploy.lambda_.get_waiter("function_updated_v2").wait(FunctionName=function, WaiterConfig={"Delay": 0.1})
    assert deploy.invoke(function) == "new"
    until(draining, file_system, 2)
    # By weight: the earlier version's environments stay as well, each with its connection.
    first = deploy.lambda_.publish_version(FunctionName=function)["Version"]
    assert deploy.invoke(function, Qualifier=first) == "new"
    until(draining, file_system, 3)

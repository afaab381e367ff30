"""Lambda and CodeDeploy behind the gateway, with an application whose alias can be moved."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio

from lambay.runtime import EnvironmentSpec, Invocation, Outcome
from tests.functions.conftest import ACCOUNT, zipped
from tests.functions.server import TRUST, Server

SERVICE_ROLE = f"arn:aws:iam::{ACCOUNT}:role/deployer"
ROLLBACK = ["DEPLOYMENT_FAILURE", "DEPLOYMENT_STOP_ON_ALARM", "DEPLOYMENT_STOP_ON_REQUEST"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    """With a role that functions may have and one that CodeDeploy acts as."""
    server = Server(tmp_path_factory.mktemp("codedeploy"))
    await server.start()
    await server("iam", "create_role", RoleName="function", AssumeRolePolicyDocument=json.dumps(TRUST))
    trust = json.dumps(TRUST).replace("lambda.amazonaws.com", "codedeploy.amazonaws.com")
    await server("iam", "create_role", RoleName="deployer", AssumeRolePolicyDocument=trust)
    allowed = {"Effect": "Allow", "Action": ["lambda:*", "sns:Publish", "s3:GetObject"], "Resource": "*"}
    await server(
        "iam",
        "put_role_policy",
        RoleName="deployer",
        PolicyName="deploy",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [allowed]}),
    )
    await server("codedeploy", "create_application", applicationName="app", computePlatform="Lambda")
    yield server
    await server.stop()


class Released:
    """A function with two versions, an alias on the first, and a deployment group of its own."""

    def __init__(self, server: Server, name: str) -> None:
        self.server = server
        self.name = name

    async def make(self, config: str = "CodeDeployDefault.LambdaAllAtOnce", **group: Any) -> None:
        server = self.server
        await server.create(self.name)
        await server("lambda", "publish_version", FunctionName=self.name)
        await server(
            "lambda",
            "update_function_code",
            FunctionName=self.name,
            ZipFile=zipped({"index.py": self.name}),
        )
        waiter = server.clients["lambda"].get_waiter("function_updated_v2")
        await asyncio.to_thread(waiter.wait, FunctionName=self.name, WaiterConfig={"Delay": 0.05})
        await server("lambda", "publish_version", FunctionName=self.name)
        await server("lambda", "create_alias", FunctionName=self.name, Name="live", FunctionVersion="1")
        await server(
            "codedeploy",
            "create_deployment_group",
            applicationName="app",
            deploymentGroupName=self.name,
            deploymentConfigName=config,
            serviceRoleArn=SERVICE_ROLE,
            **group,
        )

    def appspec(self, **hooks: str) -> dict[str, Any]:
        properties = {"Name": self.name, "Alias": "live", "CurrentVersion": "1", "TargetVersion": "2"}
        return {
            "version": 0.0,
            "Resources": [{self.name: {"Type": "AWS::Lambda::Function", "Properties": properties}}],
            "Hooks": [{event: function} for event, function in hooks.items()],
        }

    async def deploy(self, hooks: dict[str, str] | None = None, **input: Any) -> str:
        content = json.dumps(self.appspec(**hooks or {}))
        revision = {"revisionType": "AppSpecContent", "appSpecContent": {"content": content}}
        made = await self.server(
            "codedeploy",
            "create_deployment",
            applicationName="app",
            deploymentGroupName=self.name,
            **{"revision": revision, **input},
        )
        number: str = made["deploymentId"]
        return number

    async def alias(self) -> tuple[str, dict[str, float]]:
        """The alias's version and what else it sends traffic to."""
        found = await self.server("lambda", "get_alias", FunctionName=self.name, Name="live")
        return found["FunctionVersion"], found.get("RoutingConfig", {}).get("AdditionalVersionWeights", {})

    async def until_alias(self, version: str, weights: dict[str, float]) -> None:
        await until(self.alias, lambda found: found == (version, weights))

    async def until_status(self, number: str, status: str) -> dict[str, Any]:
        async def look() -> dict[str, Any]:
            found = await self.server("codedeploy", "get_deployment", deploymentId=number)
            info: dict[str, Any] = found["deploymentInfo"]
            return info

        found: dict[str, Any] = await until(look, lambda info: info["status"] == status)
        return found

    async def events(self, number: str) -> dict[str, str]:
        found = await self.server(
            "codedeploy", "get_deployment_target", deploymentId=number, targetId=f"{self.name}:live"
        )
        events = found["deploymentTarget"]["lambdaTarget"]["lifecycleEvents"]
        return {event["lifecycleEventName"]: event["status"] for event in events}

    def advance(self, minutes: float) -> None:
        self.server.clock.advance(timedelta(minutes=minutes))


async def until(look: Callable[[], Any], condition: Callable[[Any], bool]) -> Any:
    """What `look` gives once `condition` holds of it: CodeDeploy tells nobody of its progress."""
    async with asyncio.timeout(60):
        while not condition(found := await look()):  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.02)
    return found


class Hooks:
    """The functions that deployments call, and what they were called with."""

    def __init__(self) -> None:
        self.calls: asyncio.Queue[tuple[str, dict[str, str]]] = asyncio.Queue()
        self.outcome = Outcome(payload=b"null")

    async def handler(self, spec: EnvironmentSpec, invocation: Invocation) -> Outcome:
        self.calls.put_nowait((spec.function_name, json.loads(invocation.event)))
        return self.outcome


@pytest_asyncio.fixture(loop_scope="module")
async def hooks(server: Server) -> AsyncIterator[Hooks]:
    hooks = Hooks()
    handler, server.fleet.handler = server.fleet.handler, hooks.handler
    yield hooks
    server.fleet.handler = handler

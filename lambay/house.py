"""The composition: which part gets which, in which order they start, and that they stop in reverse."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import gc
import socket
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from lambay import __version__
from lambay.api import Endpoint, Gateway, Listener
from lambay.aws import Arn, AWSError, Call, Principal
from lambay.console import Console, Files, Topology
from lambay.deploy import Stacks
from lambay.deployments import Deployments
from lambay.efs import FileSystems
from lambay.efs.burst_credits import BurstCredits
from lambay.efs.host_mounts import HostMounts
from lambay.explain import Explainer
from lambay.fsd import Fsd
from lambay.functions import Functions
from lambay.functions.requirements import CANNOT_ASSUME
from lambay.functions.urls import AUTH_TYPE_KEY, URL_ACTIONS, URL_KEYS
from lambay.http import Request, Response
from lambay.identity import (
    EnvironmentKeys,
    Identity,
    Keys,
    MountPermits,
    PoliciesByService,
    RememberedRecords,
    SecurityTokens,
    ServiceAccess,
)
from lambay.neighbours import Neighbours
from lambay.neighbours.access_keys import IamRecords
from lambay.neighbours.image_manifests import ImageManifests
from lambay.neighbours.resource_policies import ResourcePolicies
from lambay.network import Network, Wires
from lambay.nfs import Exports, Visits, VpcClients, identities
from lambay.observe import (
    AlarmActions,
    Alarms,
    Billing,
    Charges,
    CloudWatch,
    FunctionActivity,
    Live,
    Logs,
    Metrics,
    NatGateways,
    NetworkTraffic,
    Prices,
    PrometheusPage,
    ProvisionedUsage,
    Publisher,
)
from lambay.own_pages import OwnPages
from lambay.registry import Registry
from lambay.runtime import ENDPOINT_PORT, Credentials, EnvironmentSpec, LocalFleet
from lambay.settings import Settings
from lambay.store import Store
from lambay.timekeeping import Timekeeping
from lambay.tls import server_context

if TYPE_CHECKING:
    from lambay.observe.tracing import Traces

_SESSION_SECONDS = 12 * 3600
# A function's request is held in the server's memory whole; larger objects go to S3 in parts.
_INSIDE_BODY_BYTES = 256 << 20


class House:
    """Every part of a running server."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.store = Store(settings.data_dir / "lambay.db")
        self.time = Timekeeping(self.store)
        self.clock = self.time.clock
        self.fsd = Fsd(settings)
        self.traces = _traces(settings)
        self.neighbours = Neighbours(settings.data_dir / "neighbours", settings, self.clock)
        iam = RememberedRecords(IamRecords(self.neighbours.ready))
        self._iam = iam
        # Before all others: they ask anew for what has changed.
        self.neighbours.on_change("iam", iam.changed)
        policies = PoliciesByService(ResourcePolicies(self.neighbours.ready))
        self.identity = Identity(self.store, iam, settings, self.clock, policies)
        self.network = Network(self.neighbours)
        self.neighbours.on_change("ec2", self.network.changed)
        self.metrics = Metrics(settings.data_dir / "metrics.db", self.clock)
        self.activity = FunctionActivity(self.clock)
        self.logs = Logs(settings.data_dir / "logs.db", self.clock, settings, self.metrics)
        self.file_systems = FileSystems(
            self.store, self.fsd, self.network, self.neighbours, settings, self.clock
        )
        visits = Visits(self.file_systems, self.fsd, self.identity.permissions, self.identity, self.clock)
        self.fsd.on_death(lambda mounts: visits.forget())
        self.exports = Exports(
            self.file_systems,
            self.fsd,
            self.identity.permissions,
            settings.nfs_listen,
            visits,
            lambda: identities(settings),
        )
        self.neighbours.on_change("iam", lambda account, region: self.exports.changed())
        self.wires = Wires(settings, self.network.topologies, VpcClients(self.exports, self.fsd))
        self.fleet = LocalFleet(
            settings,
            self.clock,
            self.fsd,
            credentials=self._credentials,
            write_log=self.logs.write,
            serve_endpoint=self._serve_inside,
            wiring=self.wires,
            tracer=self.traces,
        )
        keys = Keys(self.neighbours)
        self.mount_permits = MountPermits(self.identity, keys, self.clock)
        self._access = ServiceAccess(self.identity, iam)
        self._environment_keys = EnvironmentKeys(keys, self._access)
        self.registry = Registry(
            settings.data_dir / "images",
            self.neighbours,
            ImageManifests(self.neighbours.run),
            self._ask,
            self.clock,
            settings.url,
        )
        self.neighbours.on_change("ecr", self.registry.changed)
        self.neighbours.answer_instead("ecr", "GetAuthorizationToken", self.registry.authorization_token)
        self.functions = Functions(
            self.store,
            self.fleet,
            self.file_systems,
            self.network,
            self.neighbours,
            settings,
            self.clock,
            self._access,
            mount_permits=self.mount_permits,
            activity=self.activity,
            write_log=self.logs.write,
            images=self.registry,
            tracer=self.traces,
        )
        self.activity.allocates(self.functions.allocated_concurrency)
        self.publisher = Publisher(self.metrics, self.activity, self.fsd, self.file_systems, self.clock)
        actions = AlarmActions(self.neighbours, self.functions.deliver)
        self.alarms = Alarms(self.store, self.metrics, self.clock, actions, self.publisher.catch_up)
        self.cloudwatch = CloudWatch(self.store, self.metrics, self.alarms, self.clock)
        self.live = Live(self.publisher, self.activity, self.file_systems, self.fleet, self.clock)
        self.prometheus = PrometheusPage(self.publisher, self.activity, self.file_systems, self.fleet)
        self.publisher.also(ProvisionedUsage(self.fleet))
        self.traffic = NetworkTraffic(self.wires.passed)
        self.publisher.also(self.traffic)
        self.billing = self._billing(settings)
        self.neighbours.on_change("kms", keys.changed)
        for service in ("iam", "kms"):
            self.neighbours.on_change(service, self.mount_permits.changed)
            self.neighbours.on_change(service, lambda account, region: self.functions.mounts_changed())
        self.file_systems.on_change(self.functions.mounts_changed)
        self.file_systems.on_bypass(self.fleet.retire)
        self.neighbours.on_invocation(self.functions.deliver)
        self.logs.deliver_to(self.functions.deliver)
        self.neighbours.on_change("events", self.functions.rules_changed)
        for streaming in ("kinesis", "dynamodb"):
            self.neighbours.on_change(streaming, self.functions.stream_changed)
        scaling, service = self.functions.scaling, "application-autoscaling"
        self.neighbours.on_change(service, scaling.targets_changed)
        self.neighbours.answer_instead(service, "DescribeScalingActivities", scaling.activities)
        policies.add("lambda", self.functions.resource_policy)
        policies.add("elasticfilesystem", self.file_systems.resource_policy)
        self.host_mounts = HostMounts(self.file_systems, self.fsd, settings)
        self.burst_credits = BurstCredits(self.file_systems)
        sts = SecurityTokens(self.identity, iam, settings, self.clock)
        self.deployments = Deployments(self.store, self._ask, self.clock, self._access, self.alarms)
        self.stacks = Stacks(
            self.store,
            self._ask,
            self.identity,
            self.alarms,
            settings,
            self.clock,
            f"http://127.0.0.1:{ENDPOINT_PORT}",
        )
        services = (
            self.functions,
            self.file_systems,
            self.deployments,
            self.logs,
            self.cloudwatch,
            sts,
            self.stacks,
        )
        self.gateway = Gateway(services, self.identity, self.neighbours, settings, self.clock, self.traces)
        self.console = Console()
        self.files = Files(self.file_systems, self.fsd, settings)
        self.topology = Topology(self.gateway, self.network, self.identity.root)
        self.explainer = Explainer(
            self.functions, self.file_systems, self.network, self._access, self.mount_permits, settings
        )
        self.pages = OwnPages(self)
        self._outside = Listener(self.handle, streams=Registry.streams)
        self._inside = Listener(self.handle_inside, max_body=_INSIDE_BODY_BYTES, streams=Registry.streams)

    def _billing(self, settings: Settings) -> Billing:
        prices = Prices.load(settings.data_dir / "prices.json")
        gateways = NatGateways(
            self.neighbours, lambda: self.neighbours.status().loaded, settings.account, settings.region
        )
        charges = Charges(self.metrics, self.file_systems, gateways, prices, self.clock)
        # AWS keeps its billing metrics in us-east-1; here they are in the default Region as well.
        regions = {"us-east-1", settings.region}
        return Billing(self.metrics, charges, prices, self.clock, account=settings.account, regions=regions)

    @classmethod
    async def build(cls, settings: Settings, stack: AsyncExitStack) -> House:
        """A serving house; leaving `stack` stops it. Raises what a part raises that cannot start."""
        tls = server_context(settings)
        bound = _bind(settings)
        settings = dataclasses.replace(settings, port=bound.getsockname()[1])
        house = cls(settings)
        # Last of all: nothing is mounted below by then, or it stays for the next start to clear.
        stack.callback(_remove_if_empty, settings.run_dir)
        stack.callback(house.store.close)
        if house.traces is not None:
            stack.push_async_callback(house.traces.stop)
        stack.push_async_callback(house.neighbours.close)
        stack.push_async_callback(house.metrics.close)
        await house.metrics.start()
        stack.push_async_callback(house.logs.close)
        await house.logs.start()
        stack.push_async_callback(house.fsd.stop)
        await house.fsd.start()
        stack.push_async_callback(house.file_systems.stop)
        await house.file_systems.start()
        stack.push_async_callback(house.exports.stop)
        await house.exports.start()
        stack.push_async_callback(house.publisher.stop)
        await house.publisher.start()
        stack.push_async_callback(house.host_mounts.stop)
        stack.callback(house.files.close)
        stack.push_async_callback(house.files.stop)
        stack.push_async_callback(house._inside.stop)
        stack.push_async_callback(house.wires.stop)
        stack.push_async_callback(house.fleet.stop)
        await house.fleet.start()
        stack.callback(house.logs.deliver_to, None)
        stack.push_async_callback(house.functions.stop)
        await house.functions.start()
        stack.push_async_callback(house.logs.settle)
        stack.push_async_callback(house.alarms.stop)
        await house.alarms.start()
        stack.push_async_callback(house.billing.stop)
        await house.billing.start()
        stack.push_async_callback(house.registry.stop)
        house.registry.start()
        stack.push_async_callback(house.deployments.stop)
        await house.deployments.start()
        stack.push_async_callback(house.stacks.stop)
        await house.stacks.start()
        stack.push_async_callback(house._outside.stop)
        _calm_the_collector()
        bound.listen(2048)
        await house._outside.start_on(bound, tls)
        return house

    @property
    def url(self) -> str:
        return self.settings.url

    async def handle(self, request: Request) -> Response:
        """A request from outside: Lambay's own pages, or the AWS API."""
        if request.path.startswith("/_lambay/url/"):
            return await self._handle_url(request)
        if request.path.startswith("/_lambay/signal/"):
            return await self.stacks.handle_signal(request)
        if request.path.startswith("/_lambay/"):
            return await self.pages.handle(request)
        if Registry.serves(request):
            return await self.registry.handle(request)
        return await self.gateway.handle(request)

    async def handle_inside(self, request: Request) -> Response:
        """A request from a function: the AWS API, and packages by the locations that it hands out."""
        if request.path.startswith("/_lambay/url/"):
            return await self._handle_url(request)
        if request.path.startswith("/_lambay/code/"):
            return await self.functions.handle_code(request)
        if request.path.startswith("/_lambay/signal/"):
            return await self.stacks.handle_signal(request)
        if Registry.serves(request):
            return await self.registry.handle(request)
        return await self.gateway.handle(request)

    async def reset(self) -> None:
        """Empty every service and every file system."""
        await self.stacks.reset()
        await self.deployments.stop()
        await self.fleet.reset()
        await asyncio.gather(self.host_mounts.stop(), self.files.stop())
        await self.file_systems.reset()
        self.publisher.forget()
        await self.traffic.forget()
        await self.store.clear()
        await asyncio.gather(
            self.functions.reset(),
            self.neighbours.reset(),
            self.logs.reset(),
            self.metrics.reset(),
            self.registry.reset(),
        )
        self.network.topologies.reset()
        self._iam.changed()

    async def status(self) -> dict[str, Any]:
        """What `lambay status` shows."""
        hello = self.fsd.running
        neighbours = self.neighbours.status()
        return {
            "version": __version__,
            "url": self.url,
            "data_dir": str(self.settings.data_dir),
            "account": self.settings.account,
            "file_server": msgspec.to_builtins(hello),
            "nfs": self.exports.address,
            "environments": dataclasses.asdict(self.fleet.status()),
            "lambda": self.functions.summary(),
            "neighbours": dataclasses.asdict(neighbours),
            "network": self.wires.status(),
            **await self.file_systems.summary(),
        }

    async def _credentials(self, spec: EnvironmentSpec) -> Credentials:
        """A session of the function's role, named after the function as Lambda names it."""
        if not await self._access.assumable(
            spec.role_arn, source_arn=spec.function_arn.removesuffix(f":{spec.version}"), region=spec.region
        ):
            raise AWSError("AccessDeniedException", CANNOT_ASSUME, status=403, Type="User")
        if spec.kms_key:
            await self._environment_keys.check(spec.kms_key, spec.role_arn, region=spec.region)
        issued = await self.identity.issue_session(spec.role_arn, spec.function_name, _SESSION_SECONDS)
        return Credentials(
            access_key_id=issued.access_key_id,
            secret_access_key=issued.secret_access_key,
            session_token=issued.session_token,
            expiration=issued.expiration,
        )

    async def _admit_to_url(self, request: Request, function_arn: str) -> Principal:
        """Who signed a request for a function's URL, where that principal may invoke it."""
        principal = await self.identity.authenticate(request, "lambda")
        named = Arn.parse(function_arn)
        call = Call(
            "", named.account, named.region, principal, "lambda", "InvokeFunctionUrl", request.source_ip
        )
        for action in URL_ACTIONS:
            await self.identity.authorize(
                call, action, [function_arn], {**URL_KEYS, AUTH_TYPE_KEY: "AWS_IAM"}
            )
        return principal

    async def _handle_url(self, request: Request) -> Response:
        """A request to a function's URL."""
        if self.traces is None:
            return await self.functions.handle_url(request, self._admit_to_url)
        with self.traces.request(request.headers) as span:
            span.rename("lambda.InvokeFunctionUrl")
            response = await self.functions.handle_url(request, self._admit_to_url)
            span.note({"http.request.method": request.method, "http.response.status_code": response.status})
            if response.status >= 500:
                span.fail(str(response.status))
            return response

    async def _ask(
        self,
        principal: Principal,
        service: str,
        operation: str,
        input: Mapping[str, Any],
        *,
        account: str,
        region: str,
    ) -> dict[str, Any]:
        """An AWS operation for a room that is above none of those that answer it."""
        return await self.gateway.call(principal, service, operation, input, account=account, region=region)

    async def _serve_inside(self, listening: socket.socket) -> _InsideEndpoint:
        return _InsideEndpoint(await self._inside.start_on(listening))


class _InsideEndpoint:
    """An endpoint in an environment's namespace, closed when the environment ends: nobody is left to answer."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._stopping: asyncio.Task[None] | None = None

    def close(self) -> None:
        self._stopping = asyncio.create_task(self._endpoint.stop(grace=0))


def _traces(settings: Settings) -> Traces | None:
    """Who exports traces, where somebody takes them: its libraries are loaded for nobody else."""
    if settings.otlp_endpoint == "off":
        return None
    from lambay.observe.tracing import Traces

    return Traces(settings.otlp_endpoint, settings.tag)


def _calm_the_collector() -> None:
    """What lives as long as the server is not looked through again, and a request is no reason to look."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def _remove_if_empty(directory: Path) -> None:
    with contextlib.suppress(OSError):
        for path in sorted(directory.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        directory.rmdir()


def _bind(settings: Settings) -> socket.socket:
    """The API's socket, bound but not yet listening: clients are refused until everything serves."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((settings.host, settings.port))
    except OSError as error:
        bound.close()
        raise OSError(f"cannot listen on {settings.host}:{settings.port}: {error.strerror}") from None
    return bound

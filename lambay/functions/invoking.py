"""From a function's name to an outcome: the path that every invocation takes, synchronous or not.

What can be computed once for a build is: the target of a name and qualifier, with its EnvironmentSpec.
Nothing is written to the store here.
"""

from __future__ import annotations

import dataclasses
import logging
import random
from dataclasses import dataclass
from typing import Any

from lambay.aws import AWSError, Call
from lambay.functions import lineage
from lambay.functions.admission import Admission, throttled
from lambay.functions.code import CodeStore
from lambay.functions.errors import conflict
from lambay.functions.failure_log import FailureLog
from lambay.functions.idleness import Idleness
from lambay.functions.images import Images
from lambay.functions.mounting import Mounted, Mounting
from lambay.functions.names import FunctionName, parse
from lambay.functions.ports import Activity, Fleet, Uncounted
from lambay.functions.provisioning import Provisioning
from lambay.functions.records import Version
from lambay.functions.rendering import environment_key, function_arn
from lambay.functions.resources import Resources
from lambay.runtime import (
    CapacityExceeded,
    EnvironmentFailure,
    EnvironmentSpec,
    FileSystemLost,
    Invocation,
    MountConnectivityFailure,
    MountFailure,
    MountTimeout,
    Outcome,
    Placement,
    RuntimeUnavailable,
    ScalingLimitExceeded,
)
from lambay.runtime.images import Image, ImageUnusable
from lambay.spans import Span, Tracer

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Runnable:
    """A version and what its environments are made from; `mounted` is its file system as it was last."""

    version: Version
    spec: EnvironmentSpec
    codes: frozenset[str]
    access_point: str = ""
    mounted: Mounted | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """What a name and qualifier lead to: one version, or two with `weight` the second one's share."""

    name: FunctionName
    place: str
    reserved: int | None
    first: Runnable
    second: Runnable | None = None
    weight: float = 0.0
    ends_loops: bool = True

    def choose(self) -> Runnable:
        if self.second is not None and random.random() < self.weight:
            return self.second
        return self.first


@dataclass(frozen=True, slots=True)
class Invoked:
    outcome: Outcome
    version: str


class Invoker:
    """Runs invocations on the fleet within the account's concurrency."""

    def __init__(
        self,
        resources: Resources,
        code: CodeStore,
        fleet: Fleet,
        mounting: Mounting,
        admission: Admission,
        provisioning: Provisioning,
        failures: FailureLog,
        activity: Activity | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        self._resources = resources
        self._code = code
        self._fleet = fleet
        self.mounting = mounting
        self._admission = admission
        self._provisioning = provisioning
        self._activity = activity or Uncounted()
        self._failures = failures
        self._tracer = tracer
        provisioning.spec_of = self.spec_of
        self.idleness: Idleness | None = None
        self.images: Images | None = None
        self._targets: dict[tuple[str, str, str, str | None], Target] = {}
        self._generation = 0
        resources.on_change(self._forget)

    def _forget(self) -> None:
        self._targets.clear()
        self._generation += 1

    async def target(self, call: Call, text: str, qualifier: str | None) -> Target:
        """What the name means to this caller. Raises as `names.parse` and where it is unknown."""
        key = (call.account, call.region, text, qualifier)
        found = self._targets.get(key)
        if found is None:
            generation = self._generation
            found = await self.target_of(parse(text, call, qualifier))
            if generation == self._generation:
                self._targets[key] = found
        return found

    async def target_of(self, name: FunctionName) -> Target:
        """The target as the records have it now. Raises ResourceNotFoundException."""
        first = self._resources.version(name)
        function = self._resources.functions[name.key]
        alias = self._resources.alias(name, name.qualifier) if name.qualifier else None
        place = f"{name.account}/{name.region}"
        target = Target(
            name,
            place,
            function.reserved_concurrency,
            await self._runnable(first),
            ends_loops=function.recursive_loop == "Terminate",
        )
        for other, weight in (alias.weights if alias else {}).items():
            second = self._resources.versions[f"{name.key}/{other}"]
            target = dataclasses.replace(target, second=await self._runnable(second), weight=weight)
        return target

    async def _runnable(self, version: Version) -> Runnable:
        version = version.running
        configuration = version.configuration
        levels = configuration.logging
        if version.code.image_uri:
            made_of: dict[str, Any] = {"image": await self._image(version)}
        else:
            made_of = await self._package(version)
        spec = EnvironmentSpec(
            **made_of,
            key=environment_key(version),
            account=version.account,
            region=version.region,
            function_name=version.name,
            version=version.version,
            function_arn=function_arn(version, version.version),
            handler=configuration.handler,
            runtime=configuration.runtime,
            memory_mb=configuration.memory_size,
            timeout_s=configuration.timeout,
            role_arn=configuration.role,
            ephemeral_mb=configuration.ephemeral_storage,
            variables=dict(configuration.environment or {}),
            kms_key=configuration.kms_key_arn if configuration.environment else "",
            log_group=levels.group,
            log_format=levels.log_format,
            application_log_level=levels.application_level or None,
            system_log_level=levels.system_level or None,
            tracing="Active" if configuration.tracing_mode == "Active" else "PassThrough",
            network=_placement(version),
        )
        access_point = configuration.file_systems[0].arn if configuration.file_systems else ""
        codes = frozenset((version.code.digest, *(layer.code.digest for layer in configuration.layers)))
        return Runnable(version, spec, codes, access_point)

    async def _image(self, version: Version) -> Image:
        """The version's image with its own settings. Raises AWSError where it is gone or can't be run."""
        assert self.images is not None
        own = version.configuration.image
        try:
            image = await self.images.ready(version.code)
        except (FileNotFoundError, ImageUnusable) as error:
            _log.error("%s: its image: %s", version.key, error)
            raise AWSError(
                "InvalidRuntimeException", f"The image can't be used: {error}", Type="User"
            ) from error
        return image.overridden(own.entry_point, own.command, own.working_directory)

    async def _package(self, version: Version) -> dict[str, Any]:
        """Code and layers, unpacked. Raises AWSError where they are gone."""
        configuration = version.configuration
        try:
            code = await self._code.ensure(version.code)
            layers = tuple([await self._code.ensure(layer.code) for layer in configuration.layers])
        except OSError as error:
            _log.error("%s: its code cannot be read: %s", version.key, error)
            raise AWSError(
                "InvalidZipFileException", "Lambda could not unzip the deployment package.", Type="Server"
            ) from error
        return {"code": code, "layers": layers}

    async def run(self, target: Target, invocation: Invocation, chosen: Runnable | None = None) -> Invoked:
        """The outcome, and the version that gave it: `chosen`, or one of the target's by their weights.

        Raises ResourceConflictException for a function that is not Active, RecursiveInvocationException in a
        loop, TooManyRequestsException over the concurrency, the four EFS errors, and ServiceException where
        the host failed.
        """
        if self._tracer is None:
            return await self._run(target, invocation, chosen)
        name = target.name
        attributes = {
            "faas.name": name.name,
            "faas.invocation_id": invocation.request_id,
            "cloud.resource_id": name.arn,
            "cloud.region": name.region,
            "cloud.account.id": name.account,
        }
        with self._tracer.span(f"invoke {name.name}", attributes) as span:
            invoked = await self._run(target, invocation, chosen)
            _describe(span, invoked)
            return invoked

    async def _run(self, target: Target, invocation: Invocation, chosen: Runnable | None) -> Invoked:
        trace, count = lineage.continued(invocation.trace_id, target.name.arn)
        if target.ends_loops:
            lineage.check(count)
        invocation = invocation.traced(trace)
        chosen = chosen or target.choose()
        version = chosen.version
        if version.state == "Inactive" and self.idleness is not None:
            self.idleness.awaken(version)
        check_active(version)
        if self.idleness is not None:
            self.idleness.used(version)
        pool = self._provisioning.pool(version)
        spilled = pool is not None and pool.busy >= pool.ready
        if spilled:
            pool = None
        try:
            shared = self._admission.enter(
                target.name.key, target.place, target.reserved, provisioned=pool is not None
            )
        except AWSError:
            self._activity.throttled(target.name, version.version)
            raise
        self._activity.began(target.name, unreserved=shared)
        outcome: Outcome | None = None
        if pool is not None:
            pool.begin()
        self._admission.begin(chosen.spec.key, chosen.codes)
        try:
            if chosen.access_point:
                await self._mounting(chosen)
            environment = await self._fleet.acquire(pool.spec(chosen.spec) if pool else chosen.spec)
            try:
                outcome = await self._fleet.invoke(environment, invocation)
            finally:
                self._fleet.release(environment)
        except EnvironmentFailure as failure:
            refusal = _refusal(failure, chosen)
            if isinstance(failure, MountFailure):
                await self._failures.note(chosen.spec, f"{refusal.code}: {failure}")
            raise refusal from failure
        finally:
            self._activity.ended(
                target.name,
                chosen.spec,
                outcome,
                unreserved=shared,
                provisioned=pool.wanted if pool else 0,
                spilled=spilled,
            )
            self._admission.leave(target.name.key, target.place, shared)
            self._admission.end(chosen.spec.key)
            if pool is not None:
                pool.end()
        if pool is not None and outcome.error is not None:
            self._provisioning.replace_lost(pool)
        return Invoked(outcome, version.version)

    async def spec_of(self, version: Version) -> EnvironmentSpec:
        """For environments that are made before anybody calls."""
        runnable = await self._runnable(version)
        if runnable.access_point:
            await self._mounting(runnable)
        return runnable.spec

    async def _mounting(self, chosen: Runnable) -> None:
        """Bring the spec up to date with what EFS and IAM say of the mount now."""
        mounted = await self.mounting.mounted(chosen.version, chosen.mounted)
        if mounted is not chosen.mounted:
            chosen.spec = dataclasses.replace(chosen.spec, file_system=mounted.mount)
            chosen.mounted = mounted


def _describe(span: Span, invoked: Invoked) -> None:
    """By OpenTelemetry's semantic conventions for functions as a service."""
    outcome = invoked.outcome
    span.note(
        {
            "faas.version": invoked.version,
            "faas.coldstart": outcome.init_ms is not None,
            "lambay.environment.id": outcome.environment_id,
            "lambay.duration_ms": outcome.duration_ms,
            "lambay.max_memory_mb": outcome.max_memory_mb,
        }
    )
    if outcome.error is not None:
        span.fail(outcome.error_type or outcome.error)


def _placement(version: Version) -> Placement | None:
    vpc = version.configuration.vpc
    if vpc is None or not vpc.subnet_ids:
        return None
    return Placement(version.account, version.region, vpc.vpc_id, vpc.subnet_ids, vpc.security_group_ids)


def check_active(version: Version) -> None:
    """Raises ResourceConflictException, or ResourceNotReadyException for an Inactive one."""
    if version.state == "Inactive":
        raise AWSError(
            "ResourceNotReadyException",
            "The function is inactive and its VPC connection is no longer available. Wait for the VPC "
            "connection to reestablish and try again.",
            Type="User",
        )
    if version.state_reason_code == "SubnetOutOfIPAddresses":
        raise AWSError(
            "SubnetIPAddressLimitReachedException",
            "Lambda was not able to set up VPC access for the Lambda function because one or more configured "
            "subnets has no available IP addresses.",
            Type="Server",
            status=502,
        )
    if version.state != "Active":
        raise conflict(
            "The operation cannot be performed at this time. "
            f"The function is currently in the following state: {version.state}"
        )


def _refusal(failure: EnvironmentFailure, chosen: Runnable) -> AWSError:
    """The API's error for an environment that could not be had or was lost.

    The texts are those of "Troubleshoot invocation issues in Lambda".
    """
    arn = chosen.access_point
    if isinstance(failure, MountConnectivityFailure):
        return AWSError(
            "EFSMountConnectivityException",
            f"The function couldn't connect to the Amazon EFS file system with access point {arn}. "
            f"Check your network configuration and try again. ({failure})",
            Type="User",
        )
    if isinstance(failure, MountTimeout):
        return AWSError(
            "EFSMountTimeoutException",
            f"The function could not mount the EFS file system with access point {{{arn}}} due to mount "
            f"time out. ({failure})",
            Type="User",
        )
    if isinstance(failure, MountFailure):
        return AWSError(
            "EFSMountFailureException",
            f"The function could not mount the EFS file system with access point {arn}. ({failure})",
            Type="User",
        )
    if isinstance(failure, CapacityExceeded):
        return throttled("ConcurrentInvocationLimitExceeded", f"Rate Exceeded. {failure}")
    if isinstance(failure, ScalingLimitExceeded):
        return throttled("FunctionInvocationRateLimitExceeded")
    if isinstance(failure, RuntimeUnavailable):
        return AWSError("InvalidRuntimeException", str(failure), Type="User")
    if isinstance(failure, FileSystemLost):
        return AWSError(
            "EFSIOException",
            "This function instance was stopped because Lambda detected an IO process that was taking too "
            "long.",
            Type="User",
        )
    _log.error("%s: %s", chosen.version.key, failure)
    return AWSError("ServiceException", f"The execution environment failed: {failure}", Type="Server")

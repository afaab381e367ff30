"""`Functions`: the service `lambda`, put together from its families of operations."""

from __future__ import annotations

from typing import Any

from lambay.aws import Neighbours
from lambay.clock import Clock
from lambay.functions.admission import Admission
from lambay.functions.aliases import AliasOperations
from lambay.functions.code import CodeStore
from lambay.functions.code_signing import CodeSigningOperations
from lambay.functions.concurrency import ConcurrencyOperations
from lambay.functions.definition import DefinitionOperations
from lambay.functions.delivery import Delivery
from lambay.functions.event_invoke import EventInvokeOperations
from lambay.functions.event_pollers import EventPollers
from lambay.functions.event_queue import EventQueue
from lambay.functions.event_sources import EventSourceOperations
from lambay.functions.failure_log import FailureLog, WriteLog
from lambay.functions.idleness import Idleness
from lambay.functions.images import Images, Registry
from lambay.functions.interfaces import Interfaces
from lambay.functions.invoke import InvokeOperations
from lambay.functions.invoking import Invoker
from lambay.functions.layers import LayerOperations
from lambay.functions.lifecycle import Lifecycle
from lambay.functions.locations import Locations
from lambay.functions.mounting import Everything, Mounting
from lambay.functions.permissions import PermissionOperations
from lambay.functions.ports import Access, Activity, FileSystems, Fleet, MountPermits, Network
from lambay.functions.provisioned import ProvisionedOperations
from lambay.functions.provisioning import Provisioning
from lambay.functions.requirements import Requirements
from lambay.functions.resources import Resources
from lambay.functions.room import Room
from lambay.functions.runtimes import Runtimes
from lambay.functions.scaling import Scaling
from lambay.functions.schedules import Schedules
from lambay.functions.settings_operations import SettingsOperations
from lambay.functions.streams import Streams
from lambay.functions.tags import TagOperations
from lambay.functions.triggers import Triggers
from lambay.functions.urls import UrlOperations
from lambay.functions.versions import VersionOperations
from lambay.http import Request, Response
from lambay.settings import Settings
from lambay.spans import Tracer
from lambay.store import Store


class Functions(
    DefinitionOperations,
    VersionOperations,
    AliasOperations,
    TagOperations,
    LayerOperations,
    ConcurrencyOperations,
    EventInvokeOperations,
    SettingsOperations,
    CodeSigningOperations,
    EventSourceOperations,
    ProvisionedOperations,
    UrlOperations,
    Triggers,
    PermissionOperations,
    InvokeOperations,
):
    """AWS Lambda. Its methods are the operations that there are; see the Lambda API Reference."""

    service_name = "lambda"

    def __init__(
        self,
        store: Store,
        fleet: Fleet,
        file_systems: FileSystems,
        network: Network,
        neighbours: Neighbours,
        settings: Settings,
        clock: Clock,
        access: Access,
        activity: Activity | None = None,
        mount_permits: MountPermits | None = None,
        write_log: WriteLog | None = None,
        images: Registry | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        """Without `mount_permits` every mount may do everything; without `write_log` its failures go unlogged.

        Without `images` there are no functions of container images.
        """
        resources = Resources(store)
        code = CodeStore(settings.data_dir / "code")
        self._admission = Admission(resources, settings.concurrency)
        self._provisioning = Provisioning(resources, fleet, clock)
        self._mounting = Mounting(file_systems, fleet, mount_permits or Everything())
        failures = FailureLog(write_log, clock)
        invoker = Invoker(
            resources,
            code,
            fleet,
            self._mounting,
            self._admission,
            self._provisioning,
            failures,
            activity,
            tracer,
        )
        delivery = Delivery(resources, neighbours, clock, access, activity)
        queue = EventQueue(settings.data_dir / "events.db", resources, invoker, delivery, clock, activity)
        endpoint = settings.url
        room = Room(
            resources=resources,
            code=code,
            locations=Locations(code, clock, endpoint),
            requirements=Requirements(neighbours, network, file_systems, access),
            lifecycle=Lifecycle(
                resources,
                code,
                Interfaces(resources, network),
                fleet,
                self._admission,
                clock,
                settings.drain_seconds,
            ),
            admission=self._admission,
            queue=queue,
            runtimes=Runtimes(fleet),
            neighbours=neighbours,
            access=access,
            clock=clock,
        )
        room.lifecycle.spec_of = invoker.spec_of
        self._idleness = invoker.idleness = Idleness(resources, room.lifecycle, clock)
        self._room = room
        self._images = Images(images, settings.data_dir / "images" / "layers") if images is not None else None
        room.lifecycle.images = invoker.images = self._images
        if images is not None:
            images.keep(room.lifecycle.codes_in_use)
        self._invoker = invoker
        self._streams = Streams(invoker)
        self._endpoint = endpoint
        self._schedules = Schedules(resources, neighbours, clock, self.deliver)
        self.scaling = Scaling(resources, neighbours, clock, self.provision, self._provisioning.utilisation)
        self._pollers = EventPollers(resources, invoker, neighbours, delivery, clock)

    async def start(self) -> None:
        """Take up what a crash interrupted: Pending functions settle, queued events are invoked with."""
        self._room.lifecycle.resume()
        self._provisioning.start()
        await self._room.queue.start()
        self._schedules.start()
        self.scaling.start()
        self._idleness.start()
        for mapping in self._resources.event_sources:
            if mapping.enabled:
                self._pollers.start(mapping)

    async def stop(self) -> None:
        """End the room's tasks. Environments are the fleet's to end."""
        await self._streams.stop()
        await self._mounting.stop()
        await self._pollers.stop_all()
        await self._schedules.stop()
        await self.scaling.stop()
        await self._idleness.stop()
        await self._provisioning.stop()
        await self._room.queue.stop()
        await self._room.lifecycle.stop()
        self._room.queue.close()

    async def reset(self) -> None:
        """Forget what is not in the store, whose owner clears it first: events and code."""
        await self._pollers.stop_all()
        await self._room.queue.reset()
        await self._room.lifecycle.stop()
        self._schedules.forget()
        self._resources.forget_computed()
        if self._images is not None:
            await self._images.reset()
        await self._room.code.collect(self._resources.codes_in_use)

    def rules_changed(self, account: str, region: str) -> None:
        """EventBridge has changed there: look for scheduled rules."""
        self._schedules.rules_changed(account, region)

    def allocated_concurrency(self, place: tuple[str, str]) -> int:
        """What functions of an account and Region have reserved or provisioned."""
        return self._admission.allocated("/".join(place))

    def mounts_changed(self) -> None:
        """EFS or IAM has changed: mounts that stand get the permissions that they would get anew."""
        self._mounting.recheck()

    def stream_changed(self, account: str, region: str) -> None:
        """Kinesis or DynamoDB has changed there: mappings look for records."""
        self._pollers.changed(account, region)

    async def handle_code(self, request: Request) -> Response:
        """`GET /_lambay/code/…`: the package that a Location of ours leads to."""
        return await self._room.locations.handle(request)

    def summary(self) -> dict[str, Any]:
        """Counts for `lambay status`."""
        resources = self._resources
        return {
            "functions": len(resources.functions),
            "versions": sum(version.version != "$LATEST" for version in resources.versions),
            "aliases": len(resources.aliases),
            "layers": len({(layer.account, layer.region, layer.name) for layer in resources.layer_versions}),
            "running": self._admission.total(),
            "queued_events": len(self._room.queue),
            "event_source_mappings": len(resources.event_sources),
            "function_urls": len(resources.urls),
            "scheduled_rules": len(resources.scheduled_rules),
        }

"""What the room keeps: functions, versions, aliases, policies, layers.

Records are immutable and live in the store under `ACCOUNT/REGION/NAME[/…]`. Fields have plain names; the
API's shapes are made in `rendering`.
"""

from __future__ import annotations

import uuid
from datetime import datetime
from typing import Any, Literal

import msgspec

LATEST = "$LATEST"

State = Literal["Pending", "Active", "Inactive", "Failed"]
UpdateStatus = Literal["Successful", "Failed", "InProgress"]


class Placed(msgspec.Struct, frozen=True):
    """A record of an account in a Region."""

    account: str
    region: str


class Named(Placed, frozen=True):
    """One that is known by its name."""

    name: str

    @property
    def key(self) -> str:
        return f"{self.account}/{self.region}/{self.name}"


class OfFunction(Placed, frozen=True):
    """One that belongs to a function."""

    function: str

    @property
    def function_key(self) -> str:
        return f"{self.account}/{self.region}/{self.function}"


class Qualified(OfFunction, frozen=True):
    """One that belongs to a function, a version or an alias of it.

    The function itself is the `qualifier` `$LATEST`, or an empty one.
    """

    qualifier: str

    @property
    def key(self) -> str:
        return f"{self.function_key}/{self.qualifier}"


class Code(msgspec.Struct, frozen=True):
    """A deployment package: the SHA-256 of its zip (hex), the zip's bytes and what it unpacks to.

    A container image has `image_uri`, as it was given, and the digest of its manifest.
    """

    digest: str
    size: int
    unzipped_size: int
    image_uri: str = ""
    resolved_uri: str = ""


class Vpc(msgspec.Struct, frozen=True):
    """Where a function's network interfaces are. No VPC is `vpc_id` and both lists empty.

    `zones` are the subnets' Availability Zones, by name.
    """

    subnet_ids: tuple[str, ...] = ()
    security_group_ids: tuple[str, ...] = ()
    vpc_id: str = ""
    ipv6: bool = False
    zones: tuple[str, ...] = ()


class FileSystem(msgspec.Struct, frozen=True):
    """An access point and the path that it is mounted at."""

    arn: str
    local_mount_path: str


class Logging(msgspec.Struct, frozen=True):
    """Levels are empty where the format is Text."""

    group: str
    log_format: Literal["Text", "JSON"] = "Text"
    application_level: str = ""
    system_level: str = ""


class LayerReference(msgspec.Struct, frozen=True):
    """A layer version as a function uses it; its content stays even when the layer version is deleted."""

    arn: str
    code: Code


class ImageSettings(msgspec.Struct, frozen=True):
    """What a function says in place of its image's own entry point, command and directory."""

    entry_point: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    working_directory: str = ""


class Configuration(msgspec.Struct, frozen=True):
    """Everything of a version that its maker chose; equal configurations publish to the same version.

    A function of a container image has neither handler nor runtime.
    """

    role: str
    handler: str
    runtime: str
    logging: Logging
    description: str = ""
    timeout: int = 3
    memory_size: int = 128
    ephemeral_storage: int = 512
    architecture: str = "x86_64"
    environment: dict[str, str] | None = None
    vpc: Vpc | None = None
    file_systems: tuple[FileSystem, ...] = ()
    layers: tuple[LayerReference, ...] = ()
    dead_letter_arn: str = ""
    kms_key_arn: str = ""
    tracing_mode: str = "PassThrough"
    package_type: Literal["Zip", "Image"] = "Zip"
    image: ImageSettings = ImageSettings()


class Build(msgspec.Struct, frozen=True):
    """A version's code and configuration as environments are made from them."""

    id: str
    configuration: Configuration
    code: Code


class Version(Placed, frozen=True):
    """`$LATEST` or a published version, with its state machine.

    `revision_id` changes with every change; `build` only with the code or the configuration, and names the
    environments made of them. `previous` is what invocations run while an update is in progress, and after it
    failed. See the Lambda Developer Guide, "Lambda function states".
    """

    name: str
    version: str
    configuration: Configuration
    code: Code
    revision_id: str
    build: str
    last_modified: datetime
    state: State = "Pending"
    state_reason: str = ""
    state_reason_code: str = ""
    update_status: UpdateStatus | None = None
    update_reason: str = ""
    update_reason_code: str = ""
    previous: Build | None = None

    @property
    def running(self) -> Version:
        """The version as invocations run it."""
        if self.previous is None:
            return self
        return msgspec.structs.replace(
            self,
            configuration=self.previous.configuration,
            code=self.previous.code,
            build=self.previous.id,
            previous=None,
        )

    @property
    def key(self) -> str:
        return f"{self.function_key}/{self.version}"

    @property
    def function_key(self) -> str:
        return f"{self.account}/{self.region}/{self.name}"


class Function(Named, frozen=True):
    """What all versions of a function share. `reserved_concurrency` 0 turns the function off."""

    next_version: int = 1
    tags: dict[str, str] = {}
    reserved_concurrency: int | None = None
    recursive_loop: Literal["Terminate", "Allow"] = "Terminate"
    code_signing: str = ""


class Alias(OfFunction, frozen=True):
    """A name for one version, or for two with a share of the invocations each."""

    name: str
    version: str
    description: str
    revision_id: str
    weights: dict[str, float] = {}

    @property
    def key(self) -> str:
        return f"{self.function_key}/{self.name}"


class Policy(msgspec.Struct, frozen=True):
    """A resource policy's statements, each as IAM writes it."""

    revision_id: str
    statements: tuple[dict[str, Any], ...]


class LayerVersion(Placed, frozen=True):
    """One version of a layer."""

    name: str
    version: int
    code: Code
    created: datetime
    description: str = ""
    license_info: str = ""
    runtimes: tuple[str, ...] | None = None
    architectures: tuple[str, ...] | None = None
    policy: Policy | None = None

    @property
    def key(self) -> str:
        return f"{self.account}/{self.region}/{self.name}/{self.version:010d}"


class Layer(Named, frozen=True):
    """A layer's counter: version numbers are never used twice."""

    next_version: int = 1


class EventInvoke(Qualified, frozen=True):
    """How asynchronous invocations of one qualifier retry and where their results go."""

    last_modified: datetime
    maximum_retries: int | None = None
    maximum_age: int | None = None
    on_success: str = ""
    on_failure: str = ""


class RuntimeManagement(msgspec.Struct, frozen=True):
    """When a function's runtime may change. See "Runtime management controls"."""

    update_on: Literal["Auto", "Manual", "FunctionUpdate"]
    runtime_version_arn: str = ""


class NetworkInterface(Placed, frozen=True):
    """A function's place in a subnet; `id` and `address` are empty until EC2 has made it."""

    subnet: str
    security_groups: tuple[str, ...]
    id: str = ""
    address: str = ""
    description: str = ""

    @property
    def key(self) -> str:
        return f"{self.account}/{self.region}/{self.subnet}/{'+'.join(self.security_groups)}"


class CodeSigning(msgspec.Struct, frozen=True):
    """A code signing configuration: who may sign, and what an unsigned package comes to."""

    arn: str
    publishers: tuple[str, ...]
    on_untrusted: Literal["Warn", "Enforce"]
    description: str
    last_modified: datetime
    tags: dict[str, str] = {}


class Cors(msgspec.Struct, frozen=True):
    """Cross-origin settings of a function URL; `max_age` in seconds."""

    credentials: bool = False
    headers: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    origins: tuple[str, ...] = ()
    expose_headers: tuple[str, ...] = ()
    max_age: int = 0


class FunctionUrl(Qualified, frozen=True):
    """An HTTP address of a function or of one of its aliases."""

    url_id: str
    auth_type: Literal["NONE", "AWS_IAM"]
    created: datetime
    last_modified: datetime
    cors: Cors | None = None
    invoke_mode: Literal["BUFFERED", "RESPONSE_STREAM"] = "BUFFERED"


class Provisioned(Qualified, frozen=True):
    """How many environments of a version, or of an alias's versions, are to be initialised."""

    wanted: int
    last_modified: datetime


class EventSourceMapping(Placed, frozen=True):
    """A queue or a stream that a function is invoked with. Windows and ages are in seconds, -1 is no limit."""

    uuid: str
    function: str
    qualifier: str
    source_arn: str
    last_modified: datetime
    enabled: bool = True
    batch_size: int = 10
    window_s: int = 0
    report_failures: bool = False
    maximum_concurrency: int | None = None
    patterns: tuple[str, ...] = ()
    tags: dict[str, str] = {}
    starting_position: Literal["", "LATEST", "TRIM_HORIZON", "AT_TIMESTAMP"] = ""
    starting_timestamp: datetime | None = None
    parallelization: int = 1
    bisect: bool = False
    maximum_retries: int = -1
    maximum_age: int = -1
    on_failure: str = ""

    @property
    def key(self) -> str:
        return f"{self.account}/{self.region}/{self.uuid}"


class Checkpoint(msgspec.Struct, frozen=True):
    """How far a mapping has read a shard: the sequence number after which it goes on, empty for the beginning."""

    after: str


class RuleTarget(msgspec.Struct, frozen=True):
    """Where a rule sends, and what: `input` a constant, `input_path` a part, `template` with `paths`, or all."""

    arn: str
    input: str = ""
    input_path: str = ""
    paths: dict[str, str] = {}
    template: str = ""


class ScheduledRule(Named, frozen=True):
    """An enabled EventBridge rule with a schedule; rates count from `since`."""

    arn: str
    expression: str
    since: datetime
    targets: tuple[RuleTarget, ...] = ()


class LastUse(msgspec.Struct, frozen=True):
    """When a version was invoked last, to the day, in seconds since the epoch."""

    at: float


class Tracking(msgspec.Struct, frozen=True):
    """A target tracking policy on the utilisation of provisioned concurrency; cooldowns in seconds."""

    name: str
    target: float
    out_cooldown: int = 0
    in_cooldown: int = 0
    only_out: bool = False


class ScheduledScaling(msgspec.Struct, frozen=True):
    """A scheduled action: bounds that a scalable target gets; rates count from `since`."""

    arn: str
    schedule: str
    timezone: str
    since: datetime
    start: datetime | None = None
    end: datetime | None = None
    least: int | None = None
    most: int | None = None


class ScalableTarget(Placed, frozen=True):
    """Provisioned concurrency that Application Auto Scaling looks after; `resource` is `function:NAME:QUALIFIER`."""

    resource: str
    least: int
    most: int
    suspended_in: bool = False
    suspended_out: bool = False
    suspended_schedule: bool = False
    policies: tuple[Tracking, ...] = ()
    actions: tuple[ScheduledScaling, ...] = ()

    @property
    def key(self) -> str:
        return f"{self.account}/{self.region}/{self.resource}"


class ScalingActivity(Placed, frozen=True):
    """What Application Auto Scaling did; numbers are in order of time."""

    number: str
    resource: str
    cause: str
    description: str
    began: datetime
    status: str
    message: str

    @property
    def key(self) -> str:
        return f"{self.account}/{self.region}/{self.number}"


def revision() -> str:
    """A fresh RevisionId."""
    return str(uuid.uuid4())

"""The room's records in the store, and the look-ups that every operation starts with."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable

from lambay.functions.errors import function_not_found, missing
from lambay.functions.names import FunctionName, is_version
from lambay.functions.records import (
    LATEST,
    Alias,
    Checkpoint,
    CodeSigning,
    EventInvoke,
    EventSourceMapping,
    Function,
    FunctionUrl,
    LastUse,
    Layer,
    LayerVersion,
    NetworkInterface,
    Policy,
    Provisioned,
    RuntimeManagement,
    ScalableTarget,
    ScalingActivity,
    ScheduledRule,
    Version,
)
from lambay.store import Change, Store


class Resources:
    """All collections of the room. Every change goes through `commit`, which tells the listeners."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.functions = store.collection("lambda.functions", Function)
        self.versions = store.collection("lambda.versions", Version)
        self.aliases = store.collection("lambda.aliases", Alias)
        self.policies = store.collection("lambda.policies", Policy)
        self.layers = store.collection("lambda.layers", Layer)
        self.layer_versions = store.collection("lambda.layer-versions", LayerVersion)
        self.event_invokes = store.collection("lambda.event-invokes", EventInvoke)
        self.runtime_managements = store.collection("lambda.runtime-managements", RuntimeManagement)
        self.interfaces = store.collection("lambda.interfaces", NetworkInterface)
        self.event_sources = store.collection("lambda.event-source-mappings", EventSourceMapping)
        self.provisioned = store.collection("lambda.provisioned-concurrency", Provisioned)
        self.urls = store.collection("lambda.function-urls", FunctionUrl)
        self.code_signings = store.collection("lambda.code-signing-configs", CodeSigning)
        self.scheduled_rules = store.collection("lambda.scheduled-rules", ScheduledRule)
        self.last_uses = store.collection("lambda.last-uses", LastUse)
        self.checkpoints = store.collection("lambda.stream-checkpoints", Checkpoint)
        self.scalable_targets = store.collection("lambda.scalable-targets", ScalableTarget)
        self.scaling_activities = store.collection("lambda.scaling-activities", ScalingActivity)
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._listeners: list[Callable[[], None]] = []

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` after each change, for what is computed from the records."""
        self._listeners.append(listener)

    async def commit(self, *changes: Change) -> None:
        """Make the changes durable; other coroutines see them at once."""
        try:
            await self._store.commit(*changes)
        finally:
            self.forget_computed()

    def forget_computed(self) -> None:
        for listener in self._listeners:
            listener()

    def exclusive(self, function_key: str) -> asyncio.Lock:
        """The lock under which a function's records change."""
        return self._locks[function_key]

    def function(self, name: FunctionName) -> Function:
        """Raises ResourceNotFoundException."""
        found = self.functions.get(name.key)
        if found is None:
            raise function_not_found(name.arn)
        return found

    def latest(self, name: FunctionName) -> Version:
        """The `$LATEST` version. Raises ResourceNotFoundException."""
        found = self.versions.get(f"{name.key}/{LATEST}")
        if found is None:
            raise function_not_found(name.arn)
        return found

    def alias(self, name: FunctionName, alias: str) -> Alias | None:
        return self.aliases.get(f"{name.key}/{alias}")

    def has(self, name: FunctionName) -> bool:
        """Whether the function, with the version or alias that is named, exists."""
        key = f"{name.key}/{name.qualifier or LATEST}"
        return key in self.versions or key in self.aliases

    def version(self, name: FunctionName) -> Version:
        """The version that the name's qualifier stands for; an alias stands for its first version.

        Raises ResourceNotFoundException.
        """
        qualifier = name.qualifier or LATEST
        found = self.versions.get(f"{name.key}/{qualifier}")
        if found is None and (alias := self.alias(name, qualifier)) is not None:
            found = self.versions.get(f"{name.key}/{alias.version}")
        if found is None:
            raise function_not_found(name.given_arn)
        return found

    def check_qualifier(self, name: FunctionName) -> None:
        """Raises ResourceNotFoundException, in the words of policies, for an unknown name or qualifier."""
        self.function(name) if name.qualifier is None else self._check_qualified(name, name.qualifier)

    def _check_qualified(self, name: FunctionName, qualifier: str) -> None:
        if f"{name.key}/{qualifier}" in self.versions or f"{name.key}/{qualifier}" in self.aliases:
            return
        if qualifier == LATEST or is_version(qualifier) or "$" in qualifier:
            raise function_not_found(name.given_arn)
        raise missing(f"Cannot find alias arn: {name.given_arn}")

    def versions_of(self, function_key: str) -> list[Version]:
        """`$LATEST`, then the published versions in order."""
        found = self.versions.under(f"{function_key}/")
        return sorted(found, key=lambda version: -1 if version.version == LATEST else int(version.version))

    def codes_in_use(self) -> set[str]:
        """The digests that some version or layer version refers to."""
        digests = {layer.code.digest for layer in self.layer_versions}
        for version in self.versions:
            for used in (version, version.running):
                digests.add(used.code.digest)
                digests.update(layer.code.digest for layer in used.configuration.layers)
        return digests

    def of_account(self, account: str, region: str) -> list[Function]:
        return self.functions.under(f"{account}/{region}/")

"""Random histories of functions, versions and aliases, with restarts, against a model of dictionaries."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lambay.aws import AWSError

from .conftest import World, zipped

NAMES = ("f", "g", "f-g")


@dataclass
class Model:
    """A function: what `$LATEST` is, what each version was made from, where each alias points."""

    latest: tuple[str, int]
    versions: dict[str, tuple[str, int]] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)
    published: int = 0


class History:
    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.random = random.Random(seed)
        self.models: dict[str, Model] = {}

    def pick(self) -> str:
        return self.random.choice(NAMES)

    def code(self) -> str:
        return self.random.choice(("one", "two", "three"))

    async def step(self) -> None:
        await getattr(self, self.random.choice([name for name in dir(self) if name.startswith("do_")]))()
        if self.random.random() < 0.15:
            # Often enough between a request and the step that follows it.
            await self.world.restart()
        await self.world.settle()

    async def do_create(self) -> None:
        name, code = self.pick(), self.code()
        try:
            await self.world.create(name, Code={"ZipFile": zipped({"a.py": code})}, Timeout=3)
        except AWSError as error:
            assert (error.code, name in self.models) == ("ResourceConflictException", True)  # noqa: PT017
        else:
            assert name not in self.models
            self.models[name] = Model((code, 3))

    async def do_update_code(self) -> None:
        name, code = self.pick(), self.code()
        if await self.exists(name, "UpdateFunctionCode", ZipFile=zipped({"a.py": code})):
            self.models[name].latest = (code, self.models[name].latest[1])

    async def do_update_configuration(self) -> None:
        name, timeout = self.pick(), self.random.choice((3, 5))
        if await self.exists(name, "UpdateFunctionConfiguration", Timeout=timeout):
            self.models[name].latest = (self.models[name].latest[0], timeout)

    async def do_publish(self) -> None:
        name = self.pick()
        if not await self.exists(name, "PublishVersion"):
            return
        model = self.models[name]
        newest = max(model.versions, key=int, default=None)
        if newest is None or model.versions[newest] != model.latest:
            model.published += 1
            model.versions[str(model.published)] = model.latest

    async def do_alias(self) -> None:
        name, alias = self.pick(), self.random.choice(("a", "b"))
        model = self.models.get(name)
        if model is None or not model.versions:
            return
        version = self.random.choice(sorted(model.versions))
        operation = "UpdateAlias" if alias in model.aliases else "CreateAlias"
        await self.world(operation, FunctionName=name, Name=alias, FunctionVersion=version)
        model.aliases[alias] = version

    async def do_delete_version(self) -> None:
        name = self.pick()
        model = self.models.get(name)
        if model is None or not model.versions:
            return
        version = self.random.choice(sorted(model.versions))
        try:
            await self.world("DeleteFunction", FunctionName=name, Qualifier=version)
        except AWSError as error:
            pointed = version in model.aliases.values()
            assert (error.code, pointed) == ("ResourceConflictException", True)  # noqa: PT017
        else:
            assert version not in model.aliases.values()
            del model.versions[version]

    async def do_delete(self) -> None:
        if self.random.random() < 0.3:
            name = self.pick()
            if await self.exists(name, "DeleteFunction"):
                del self.models[name]

    async def exists(self, name: str, operation: str, **input: object) -> bool:
        try:
            await self.world(operation, FunctionName=name, **input)
        except AWSError as error:
            assert (error.code, name in self.models) == ("ResourceNotFoundException", False)  # noqa: PT017
            return False
        assert name in self.models
        return True

    async def check(self) -> None:
        """What the API says, what runs, and what is on disk are the model's."""
        listed = await self.world("ListFunctions")
        assert {shown["FunctionName"] for shown in listed["Functions"]} == set(self.models)
        digests = set()
        for name, model in self.models.items():
            shown = await self.world("ListVersionsByFunction", FunctionName=name)
            versions = {"$LATEST": model.latest, **model.versions}
            assert [version["Version"] for version in shown["Versions"]] == list(versions)
            for qualifier, version in model.aliases.items():
                answer = await self.world("Invoke", FunctionName=name, Qualifier=qualifier)
                assert answer["ExecutedVersion"] == version
            for version, (code, timeout) in versions.items():
                await self.world("Invoke", FunctionName=f"{name}:{version}")
                spec = self.world.fleet.runs[-1][0]
                assert ((spec.code / "a.py").read_text(), spec.timeout_s) == (code, timeout)
                digests.add(spec.code.name)
        kept = {path.stem for path in (self.world.settings.data_dir / "code").glob("*.zip")}
        assert kept == digests


@pytest.mark.parametrize("seed", random.sample(range(10**6), 4))
async def test_a_history(tmp_path: Path, seed: int) -> None:
    world = World(tmp_path)
    await world.functions.start()
    history = History(world, seed)
    for number in range(120):
        await history.step()
        if number % 10 == 9:
            await history.check()
    await world.restart()
    await world.settle()
    await history.check()
    await world.close()

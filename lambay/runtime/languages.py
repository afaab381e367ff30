"""Lambda's runtimes as this host can run them: what a slot has running before it is claimed, and what for.

A runtime is one of three kinds. Python has AWS's runtime client in an interpreter that waits; Node.js
likewise with Lambay's own client; OS-only runtimes (`provided.*`) bring a `bootstrap` of their own, for
which a small launcher waits.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lambay.runtime import interpreters, node, packages
from lambay.runtime.interpreters import Interpreter
from lambay.runtime.packages import node_sdk
from lambay.runtime.spec import Runtime

RUNTIME_API_PORT = 9001
BOOTSTRAPS = Path(__file__).parent / "bootstrap"
"""Lambay's own programs in a sandbox, seen there at /var/rapid."""

OWN_PYTHON = f"python3.{sys.version_info.minor}"
"""The version that Lambay itself runs on; its interpreter is always there."""

PROVIDED = ("provided.al2", "provided.al2023")
LAUNCHER = PROVIDED[-1]
"""What container images are run by as well: it executes what it is told."""
RUNTIMES = (*interpreters.RUNTIMES, *node.RUNTIMES, *PROVIDED)

# What no process can take on that has started already; see ld.so(8), locale(7), mallopt(3).
_READ_AT_START = ("LD_", "LC_", "LANG=", "LANGUAGE=", "MALLOC_", "GLIBC_")
_WRAPPER = "AWS_LAMBDA_EXEC_WRAPPER"


@dataclass(frozen=True, slots=True)
class Language:
    """How slots of one kind are made.

    `waiting` is the command that waits for its function, `commands` what is executed in its place where it
    cannot become the function itself: the first of them whose program is there. `variables` are those of
    Lambda's that are the same for all functions; `read_at_start` is how further ones (`NAME=`) begin that only
    a new process takes on. `forks` names the module of BOOTSTRAPS whose `main` a copy of a fork server runs
    in `waiting`'s place; without one each slot has a process started for it. `mounts` and `masked` are
    directories: shown read-only, shown empty.
    """

    name: str
    waiting: tuple[str, ...]
    commands: tuple[tuple[str, ...], ...]
    variables: tuple[tuple[str, str], ...]
    mounts: tuple[tuple[str, Path], ...]
    masked: tuple[Path, ...] = ()
    read_at_start: tuple[str, ...] = _READ_AT_START
    becomes_the_function: bool = True
    forks: str = ""

    def executes(self, environment: Mapping[str, str]) -> list[list[str]] | None:
        """The commands to choose from with these variables; None if the waiting process becomes the function."""
        wrapper = environment.get(_WRAPPER)
        fixed = dict(self.variables)
        fresh = any(
            f"{name}=".startswith(self.read_at_start) and fixed.get(name) != value
            for name, value in environment.items()
        )
        if self.becomes_the_function and not fresh and not wrapper:
            return None
        wrapped = [wrapper] if wrapper and self.becomes_the_function else []
        return [[*wrapped, *command] for command in self.commands]


def examine(runtime: str) -> tuple[Runtime, Language | None]:
    """Whether the host can run it, and how. Starts interpreters to ask, so it blocks."""
    if runtime in PROVIDED:
        return _provided(runtime)
    if runtime in interpreters.RUNTIMES:
        return _python(runtime)
    if runtime in node.RUNTIMES:
        return _node(runtime)
    return Runtime(runtime, False, reason=f"not supported here; these are: {', '.join(RUNTIMES)}"), None


def _python(runtime: str) -> tuple[Runtime, Language | None]:
    interpreter = interpreters.find(runtime)
    if interpreter is None:
        version = runtime.removeprefix("python")
        reason = (
            f"this host has no {runtime} interpreter; install one (apt-get install {runtime}, "
            f"uv python install {version} or pyenv install {version}), then run: {_build_command(runtime)}"
        )
        return Runtime(runtime, False, reason=reason), None
    built = packages.built(runtime)
    if built is None:
        reason = f"its packages are not built for {interpreter.executable}; run: {_build_command(runtime)}"
        return Runtime(runtime, False, interpreter.executable, reason), None
    executable = str(interpreter.sandbox_executable)
    language = Language(
        name=runtime,
        waiting=(executable, "/var/rapid/bootstrap.py"),
        commands=((executable, "/var/rapid/bootstrap.py", "run"),),
        variables=_variables("/var/lang/bin:", "/var/lang/lib:", PYTHONPATH="/var/runtime"),
        mounts=(*_interpreter_mount(interpreter), ("/var/runtime", built)),
        masked=interpreter.site_directories,
        read_at_start=("PYTHON", *_READ_AT_START),
        forks="bootstrap",
    )
    return Runtime(runtime, True, interpreter.executable), language


def _node(runtime: str) -> tuple[Runtime, Language | None]:
    interpreter = node.find(runtime)
    version = node.major(runtime)
    if interpreter is None:
        reason = (
            f"this host has no Node.js {version}; install it from nodejs.org or with nvm install {version}"
        )
        return Runtime(runtime, False, reason=reason), None
    executable = str(interpreter.sandbox_executable)
    modules = f"/opt/nodejs/node{version}/node_modules:/opt/nodejs/node_modules"
    language = Language(
        name=runtime,
        waiting=(executable, "/var/rapid/bootstrap.mjs"),
        commands=((executable, "/var/rapid/bootstrap.mjs", "run"),),
        variables=_variables(
            "/var/lang/bin:",
            "/var/lang/lib:",
            NODE_PATH=f"{modules}:/var/node_modules:/var/runtime/node_modules:/var/runtime:/var/task",
        ),
        mounts=(*_interpreter_mount(interpreter), *_node_modules()),
        read_at_start=("NODE_", "UV_", "OPENSSL_", *_READ_AT_START),
    )
    return Runtime(runtime, True, interpreter.executable), language


def _node_modules() -> tuple[tuple[str, Path], ...]:
    modules = node_sdk.built()
    return () if modules is None else (("/var/node_modules", modules),)


def _provided(runtime: str) -> tuple[Runtime, Language | None]:
    interpreter = interpreters.find(OWN_PYTHON)
    if interpreter is None:
        return Runtime(runtime, False, reason=f"this host has no {OWN_PYTHON} for the launcher"), None
    language = Language(
        name="provided",
        waiting=(str(interpreter.sandbox_executable), "/var/rapid/launch.py"),
        commands=(("/var/task/bootstrap",), ("/opt/bootstrap",)),
        variables=_variables("", ""),
        mounts=_interpreter_mount(interpreter),
        masked=interpreter.site_directories,
        becomes_the_function=False,
        forks="launch",
    )
    return Runtime(runtime, True, interpreter.executable), language


def _variables(path: str, library_path: str, **own: str) -> tuple[tuple[str, str], ...]:
    """Lambda Developer Guide, "Defined runtime environment variables"."""
    libraries = "/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib"
    common = {
        "PATH": f"{path}/usr/local/bin:/usr/bin/:/bin:/opt/bin",
        "LD_LIBRARY_PATH": f"{library_path}{libraries}",
        "LANG": "en_US.UTF-8",
        "TZ": ":UTC",
        "LAMBDA_TASK_ROOT": "/var/task",
        "LAMBDA_RUNTIME_DIR": "/var/runtime",
        "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{RUNTIME_API_PORT}",
    }
    return tuple({**common, **own}.items())


def _interpreter_mount(interpreter: Interpreter) -> tuple[tuple[str, Path], ...]:
    return () if interpreter.in_usr else (("/var/lang", interpreter.prefix),)


def _build_command(runtime: str) -> str:
    return f"{os.path.join('.venv', 'bin', 'python')} -m lambay.runtime.packages {runtime}"

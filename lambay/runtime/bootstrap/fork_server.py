"""Starts sandboxed processes as copies of itself, with what they need imported already.

It is a small process of its own in the sandbox's file tree, root on the host, and knows nothing but what each
request tells: a request is one message on its standard input with descriptors, the answer the new process's
number and a pidfd. `fork_server.py PROGRAM` imports PROGRAM's modules, then each copy confines itself and runs
PROGRAM's `main`. Runs under the function's interpreter: Python 3.8 and later.
"""

import array
import gc
import importlib
import json
import os
import signal
import socket
import sys
from typing import Any, List, Tuple  # noqa: UP035

import confinement  # type: ignore[import-not-found]

_FD = array.array("i").itemsize
_MOST_DESCRIPTORS = 32


def serve(program: Any) -> None:
    """Answer requests until Lambay hangs up."""
    channel = socket.socket(fileno=os.dup(0))
    # What exists now is the same in every copy: leave its pages alone.
    gc.collect()
    gc.freeze()
    gc.disable()
    channel.sendall(b"ready")
    while True:
        message, descriptors = receive(channel)
        if not message:
            # Not sys.exit: nothing is to be tidied up.
            os._exit(0)
        answer(channel, program, json.loads(message.decode()), descriptors)
        for descriptor in descriptors:
            os.close(descriptor)


def receive(channel: socket.socket) -> Tuple[bytes, List[int]]:  # noqa: UP006
    message, ancillary, _, _ = channel.recvmsg(65536, socket.CMSG_SPACE(_MOST_DESCRIPTORS * _FD))
    descriptors = array.array("i")
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(content[: len(content) - len(content) % _FD])
    return message, list(descriptors)


def answer(channel: socket.socket, program: Any, request: Any, descriptors: List[int]) -> None:  # noqa: UP006
    try:
        child, pidfd = confinement.clone(descriptors[-1] if request["unified"] else None)
    except OSError as error:
        channel.sendall(json.dumps({"error": str(error)}).encode())
        return
    if child == 0:
        first(program, request, descriptors)
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [pidfd]))]
    channel.sendmsg([json.dumps({"pid": child}).encode()], rights)
    os.close(pidfd)


def first(program: Any, request: Any, descriptors: List[int]) -> None:  # noqa: UP006
    """Process 1 of a sandbox: builds it, starts the function's process, tells how that ended."""
    status, rest = descriptors[0], descriptors[1:]
    try:
        confinement.build(request, rest)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        child = os.fork()
        if child == 0:
            run(program, request, rest)
        status = confinement.withdraw(status)
        ended = confinement.wait_for(child)
        os.write(status, json.dumps({"exit": ended}).encode())
        # Extensions have their Shutdown phase after a crash as well; Lambay ends what is left.
        confinement.wait_for(-1)
    except BaseException as error:
        os.write(status, json.dumps({"error": str(error)}).encode())
    finally:
        os._exit(1)


def run(program: Any, request: Any, descriptors: List[int]) -> None:  # noqa: UP006
    """The function's process: gives everything up, then runs the program."""
    try:
        confinement.confine(request, descriptors)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        gc.enable()
        # A copy started by multiprocessing is not to look for this script.
        sys.modules["__main__"].__dict__.pop("__file__", None)
        program.main()
        status = 0
    except SystemExit as ending:
        status = ending.code if isinstance(ending.code, int) else 1 if ending.code else 0
        if isinstance(ending.code, str):
            sys.stderr.write(ending.code + "\n")
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    finish(status)


def finish(status: int) -> None:
    """End as an interpreter does at a script's end: threads, exit handlers, buffers."""
    try:
        import threading

        threading._shutdown()  # type: ignore[attr-defined]
        import atexit

        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = status or 1
    os._exit(status)


if __name__ == "__main__":
    # A copy that is process 1 has no handlers, so that no signal from within its namespace ends it.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    # Found as scripts find their neighbours; the program's own path is set when it runs.
    module = importlib.import_module(sys.argv[1])
    sys.argv[:] = ["/var/rapid/" + sys.argv[1] + ".py"]
    serve(module)

"""How a program in a sandbox waits for its function.

Its standard input is a socket to Lambay: it writes one byte once it is ready, and reads one JSON object,
`{"environment": {...}, "commands": [[program, argument...]...] or null, "directory": "/var/task"}`.
"""

import json
import os
import socket
import struct
from typing import Any, Dict, List  # noqa: UP035

OUTPUT: List[int] = []  # noqa: UP006
"""Where extensions write, if they have a pipe of their own."""


def receive() -> Any:
    """The object; never returns where Lambay went away before this sandbox was needed."""
    with socket.socket(fileno=0) as channel:
        channel.sendall(b"R")
        parts = []
        while True:
            part, ancillary, _, _ = channel.recvmsg(65536, socket.CMSG_SPACE(4))
            for level, kind, content in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    OUTPUT.append(struct.unpack("i", content[:4])[0])
            if not part:
                break
            parts.append(part)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, channel.detach())
        os.close(null)
    if not parts:
        os._exit(0)
    return json.loads(b"".join(parts))


def execute(commands: List[List[str]], environment: Dict[str, str]) -> None:  # noqa: UP006
    """Become the first command whose program is there; returns only where none is."""
    for command in commands:
        try:
            os.execvpe(command[0], command, environment)
        except OSError:
            continue


def start_extensions(environment: Dict[str, str]) -> None:  # noqa: UP006
    """Start the programs in /opt/extensions, as children of the sandbox's first process."""
    directory = "/opt/extensions"
    programs = sorted(os.listdir(directory)) if os.path.isdir(directory) else []
    for program in (os.path.join(directory, name) for name in programs):
        if not (os.path.isfile(program) and os.access(program, os.X_OK)):
            continue
        child = os.fork()
        if child == 0:
            if os.fork() == 0:
                os.chdir("/")
                for pipe in OUTPUT:
                    os.dup2(pipe, 1)
                    os.dup2(pipe, 2)
                    os.close(pipe)
                os.execve(program, [program], environment)
            os._exit(0)
        os.waitpid(child, 0)
    while OUTPUT:
        os.close(OUTPUT.pop())

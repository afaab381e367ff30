"""How a copy of the fork server becomes a sandbox: namespaces, mounts, control groups, and giving up everything.

What bubblewrap and setpriv do for the sandboxes that have an interpreter of their own. A request is

    {"uid": 1073741824, "files": 1024, "hostname": "lambda", "mounts": ["/var/task", ...],
     "tasks": 4, "unified": true}

where a first mount at `/` is an image's root, in place of the fork server's. The descriptors, in this order:
status pipe (kept by process 1), standard input, output, network namespace, seccomp program, one detached mount
for each of `mounts`, the file `tasks` of so many v1 control groups, the directory of the v2 one where there is one.
Every failure is an OSError that names the call.
"""

import ctypes
import os
import resource
import signal
import socket
import struct
from typing import Any, Dict, List, Optional, Tuple  # noqa: UP035

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REMOUNT, _MS_BIND = 1, 2, 4, 8, 32, 4096
_MNT_DETACH = 2
_OPEN_TREE_CLONE, _OPEN_TREE_CLOEXEC, _AT_RECURSIVE = 1, 0x80000, 0x8000
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_SYS_OPEN_TREE = 428
_SYS_MOVE_MOUNT, _SYS_CLONE3, _SYS_CLOSE_RANGE = 429, 435, 436
_CLONE_PIDFD, _CLONE_INTO_CGROUP = 0x1000, 0x200000000
_AT_FDCWD, _MOVE_MOUNT_F_EMPTY_PATH, _MOVE_MOUNT_T_SYMLINKS = -100, 4, 0x10
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_SECCOMP, _PR_CAPBSET_DROP = 1, 4, 22, 24
_PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 38, 47, 4
_SECCOMP_MODE_FILTER = 2
_CAPSET = {"x86_64": 126, "aarch64": 91}
_CAPABILITY_VERSION_3 = 0x20080522
_KEPT = 3
_NOBODY = 65534
# What of /proc an unprivileged process has no business with; bubblewrap covers the same.
_COVERED = ("sys", "sysrq-trigger", "irq", "bus")

# Without giving up the interpreter's lock: there is one thread.
_libc = ctypes.PyDLL(None, use_errno=True)


def _call(name: str, *arguments: Any) -> int:
    result = int(getattr(_libc, name)(*arguments))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result


def _system_call(name: str, number: int, *arguments: Any) -> int:
    result = int(_libc.syscall(ctypes.c_long(number), *arguments))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{name}: {os.strerror(error)}")
    return result


def _prctl(option: int, *arguments: int) -> None:
    padded = [ctypes.c_ulong(value) for value in (*arguments, 0, 0, 0, 0)[:4]]
    _call("prctl", option, *padded)


def clone(group: Optional[int]) -> Tuple[int, int]:  # noqa: UP006, UP045
    """A copy of this process, born as process 1 of a pid namespace and in a v2 control group: (number, pidfd).

    Both are 0 in the copy. The C library does not know of it: it has one thread, forks the function's process
    in the ordinary way and ends by `_exit`.
    """
    pidfd = ctypes.c_int(-1)
    flags = CLONE_NEWPID | _CLONE_PIDFD | (_CLONE_INTO_CGROUP if group is not None else 0)
    # struct clone_args (linux/sched.h)
    words = (flags, ctypes.addressof(pidfd), 0, 0, signal.SIGCHLD, 0, 0, 0, 0, 0, group or 0)
    arguments = struct.pack("=11Q", *words)
    pid = _system_call("clone3", _SYS_CLONE3, arguments, ctypes.c_size_t(len(arguments)))
    return (pid, pidfd.value) if pid else (0, 0)


def build(request: Dict[str, Any], descriptors: List[int]) -> None:  # noqa: UP006
    """As process 1: the control groups, the namespaces and what is mounted in them."""
    # It ends with the fork server, and that one with Lambay.
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    os.setsid()
    network, mounts = descriptors[2], request["mounts"]
    groups = descriptors[4 + len(mounts) :]
    for tasks in groups[: request["tasks"]]:
        os.write(tasks, b"0")
    # If the machine runs out of memory, functions go first.
    with open("/proc/self/oom_score_adj", "w") as score:
        score.write("500")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (request["files"], request["files"]))
    _call("setns", network, CLONE_NEWNET)
    # The control group is its namespace's root only for who is in it already.
    _call("unshare", CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP)
    socket.sethostname(request["hostname"])
    if mounts[0] == "/":
        _enter_root(descriptors[4])
        descriptors, mounts = [*descriptors[:4], *descriptors[5:]], mounts[1:]
    else:
        _call("umount2", b"/proc", _MNT_DETACH)
    # Python 3.8 and 3.9 have no zip(strict=...).
    for place, detached in zip(mounts, descriptors[4:]):  # noqa: B905
        try:
            _attach(detached, place, _MOVE_MOUNT_T_SYMLINKS)
        except OSError:
            # An image may have something else there; it is its own concern then.
            if not place.startswith("/etc/"):
                raise
    _mount("proc", "/proc", "proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC)
    for name in _COVERED:
        covered = "/proc/" + name
        if os.path.exists(covered):
            _mount(covered, covered, None, _MS_BIND)
            _mount(
                "none",
                covered,
                None,
                _MS_BIND | _MS_REMOUNT | _MS_RDONLY | _MS_NOSUID | _MS_NODEV | _MS_NOEXEC,
            )
    # Terminals of one's own: those of the tree's /dev are every sandbox's.
    _mount("devpts", "/dev/pts", "devpts", _MS_NOSUID | _MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620")


def _attach(detached: int, place: str, flags: int = 0) -> None:
    arguments = (detached, b"", _AT_FDCWD, place.encode(), _MOVE_MOUNT_F_EMPTY_PATH | flags)
    _system_call("move_mount " + place, _SYS_MOVE_MOUNT, *arguments)


def _enter_root(root: int) -> None:
    """Have an image's files in place of the fork server's, with nothing of those but the devices."""
    flags = _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC | _AT_RECURSIVE
    devices = _system_call("open_tree /dev", _SYS_OPEN_TREE, _AT_FDCWD, b"/dev", flags)
    # Some directory; the root's place is where it is mounted.
    _attach(root, "/mnt")
    os.chdir("/mnt")
    _attach(devices, "dev")
    os.close(devices)
    _system_call("pivot_root", _PIVOT_ROOT[os.uname().machine], b".", b".")
    _call("umount2", b".", _MNT_DETACH)
    os.chdir("/")


def _mount(source: str, target: str, kind: Any, flags: int, options: Any = None) -> None:
    encoded = [None if text is None else text.encode() for text in (source, target, kind, options)]
    _call("mount", encoded[0], encoded[1], encoded[2], ctypes.c_ulong(flags), encoded[3])


def withdraw(status: int) -> int:
    """As process 1, once the function's process runs: keep nothing but the status pipe, and tell its number."""
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    os.dup2(status, _KEPT)
    _close_from(_KEPT + 1)
    _give_up(_NOBODY)
    # Nobody within may look at it. A change of identity clears the signal.
    _prctl(_PR_SET_DUMPABLE, 0)
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    return _KEPT


def confine(request: Dict[str, Any], descriptors: List[int]) -> None:  # noqa: UP006
    """As the function's process: standard descriptors only, its own identity, no privileges, the filter."""
    os.dup2(descriptors[0], 0)
    os.dup2(descriptors[1], 1)
    os.dup2(descriptors[1], 2)
    length = os.fstat(descriptors[3]).st_size
    program = os.pread(descriptors[3], length, 0)
    _close_from(3)
    _give_up(request["uid"])
    # What a change of identity takes away, an execution would give back: its own /proc/self.
    _prctl(_PR_SET_DUMPABLE, 1)
    os.chdir("/")
    held = ctypes.create_string_buffer(program, length)
    # struct sock_fprog: how many instructions, and where.
    filter_program = struct.pack("HP", length // 8, ctypes.addressof(held))
    address = ctypes.create_string_buffer(filter_program, len(filter_program))
    _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.addressof(address))


def _give_up(uid: int) -> None:
    """The slot's uid and gid, no groups, no capabilities in any set, no way to new privileges."""
    for capability in range(64):
        try:
            _prctl(_PR_CAPBSET_DROP, capability)
        except OSError:
            # Beyond the last that this kernel knows.
            break
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    header = struct.pack("Ii", _CAPABILITY_VERSION_3, 0)
    _system_call("capset", _CAPSET[os.uname().machine], header, bytes(24))
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def _close_from(lowest: int) -> None:
    _system_call("close_range", _SYS_CLOSE_RANGE, lowest, ctypes.c_uint(0xFFFFFFFF), 0)


def wait_for(child: int) -> int:
    """Collect what ends until `child` does, or all have; its status as a shell gives it."""
    while True:
        try:
            pid, status = os.wait()
        except ChildProcessError:
            return 0
        if pid == child:
            return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)

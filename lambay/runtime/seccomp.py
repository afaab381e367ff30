"""The system calls that a function may not make.

Everything is allowed but what reaches beyond the sandbox or widens the kernel's attack surface, much as in
container engines' default profiles: mounts, namespaces, modules, keys, tracing of others, BPF, io_uring,
clocks. A refused call fails with EPERM, or ENOSYS where programs fall back to an older call on that answer
only.
"""

from __future__ import annotations

import errno
import tempfile

import pyseccomp

_REFUSED = (
    "acct",
    "add_key",
    "adjtimex",
    "bpf",
    "chroot",
    "clock_adjtime",
    "clock_settime",
    "create_module",
    "delete_module",
    "fanotify_init",
    "finit_module",
    "fsconfig",
    "fsmount",
    "fsopen",
    "fspick",
    "get_kernel_syms",
    "init_module",
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    "ioperm",
    "iopl",
    "kexec_file_load",
    "kexec_load",
    "keyctl",
    "lookup_dcookie",
    "mount",
    "mount_setattr",
    "move_mount",
    "move_pages",
    "name_to_handle_at",
    "nfsservctl",
    "open_by_handle_at",
    "open_tree",
    "perf_event_open",
    "pivot_root",
    "process_vm_readv",
    "process_vm_writev",
    "ptrace",
    "quotactl",
    "quotactl_fd",
    "reboot",
    "request_key",
    "setdomainname",
    "sethostname",
    "setns",
    "settimeofday",
    "swapoff",
    "swapon",
    "syslog",
    "umount",
    "umount2",
    "unshare",
    "uselib",
    "userfaultfd",
    "vhangup",
    "vmsplice",
)

_CLONE_NEW_ANY = 0x7E020080  # NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET, NEWTIME
_ALLOWED_FAMILIES = (1, 2, 10, 16)  # AF_UNIX, AF_INET, AF_INET6, AF_NETLINK (getaddrinfo asks it)


def filter_program() -> bytes:
    """The filter as the kernel's BPF program for this machine's architecture."""
    program = pyseccomp.SyscallFilter(defaction=pyseccomp.ALLOW)
    refuse = pyseccomp.ERRNO(errno.EPERM)
    for name in _REFUSED:
        if _known(name):
            program.add_rule(refuse, name)
    for bit in (1 << shift for shift in range(32) if _CLONE_NEW_ANY >> shift & 1):
        program.add_rule(refuse, "clone", pyseccomp.Arg(0, pyseccomp.MASKED_EQ, bit, bit))
    # Its flags lie in memory, where a filter cannot look; libc falls back to clone.
    program.add_rule(pyseccomp.ERRNO(errno.ENOSYS), "clone3")
    # Packet sockets, vsock, AF_ALG and the rest are of no use behind a loopback of one's own.
    program.add_rule(refuse, "socket", pyseccomp.Arg(0, pyseccomp.GT, max(_ALLOWED_FAMILIES)))
    for family in range(max(_ALLOWED_FAMILIES)):
        if family not in _ALLOWED_FAMILIES:
            program.add_rule(refuse, "socket", pyseccomp.Arg(0, pyseccomp.EQ, family))
    # TIOCSTI would put words into a terminal's mouth.
    program.add_rule(refuse, "ioctl", pyseccomp.Arg(1, pyseccomp.MASKED_EQ, 0xFFFFFFFF, 0x5412))
    with tempfile.TemporaryFile() as file:
        program.export_bpf(file)
        file.seek(0)
        return file.read()


def _known(name: str) -> bool:
    # Old calls are missing on newer architectures, new ones in older libraries.
    try:
        return int(pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name)) >= 0
    except (OSError, ValueError):
        return False

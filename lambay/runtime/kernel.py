"""The system calls that Python's standard library lacks: mounts, namespaces, loop devices.

All raise OSError. They need CAP_SYS_ADMIN, and Linux 5.12 for `mount_setattr`.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import stat
import struct
from pathlib import Path

CLONE_NEWNET = 0x40000000

_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MS_BIND, _MS_REC = 1, 2, 4, 4096, 16384
_MS_NOATIME = 1024
_MS_PRIVATE, _MS_SLAVE, _MS_SHARED = 1 << 18, 1 << 19, 1 << 20
_MNT_DETACH = 2

# Numbers of the generic table: the same on x86-64 and arm64.
_SYS_OPEN_TREE, _SYS_MOVE_MOUNT, _SYS_MOUNT_SETATTR = 428, 429, 442
_SYS_FSOPEN, _SYS_FSCONFIG, _SYS_FSMOUNT = 430, 431, 432
_FSOPEN_CLOEXEC, _FSMOUNT_CLOEXEC, _FSCONFIG_SET_STRING, _FSCONFIG_CMD_CREATE = 1, 1, 1, 6
_LONGEST_OPTIONS = 4000
_OPEN_TREE_CLONE, _AT_FDCWD, _AT_EMPTY_PATH = 1, -100, 0x1000
_MOVE_MOUNT_F_EMPTY_PATH = 4
_MOUNT_ATTR_RDONLY, _MOUNT_ATTR_NOSUID, _MOUNT_ATTR_NODEV = 1, 2, 4

_LOOP_CTL_GET_FREE, _LOOP_CONFIGURE = 0x4C82, 0x4C0A
_LO_FLAGS_AUTOCLEAR = 4

_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str, path: object = None) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}", None if path is None else str(path))
    return result


def _mount(source: str, target: Path, kind: str | None, flags: int, options: str | None) -> None:
    _checked(
        _libc.mount(
            source.encode(),
            os.fsencode(target),
            kind.encode() if kind else None,
            ctypes.c_ulong(flags),
            options.encode() if options else None,
        ),
        "mount",
        target,
    )


def make_mount_point(directory: Path, *, shared: bool) -> None:
    """Bind `directory` onto itself, in a peer group of its own (`shared`) or in none."""
    _mount(str(directory), directory, None, _MS_BIND, None)
    _mount("none", directory, None, _MS_PRIVATE, None)
    if shared:
        _mount("none", directory, None, _MS_SHARED, None)


def bind_read_only(source: Path, target: Path) -> None:
    """Attach a read-only view of `source` at `target`.

    It is made read-only before it is attached: a later remount would not reach the mounts that propagation
    has made in running sandboxes.
    """
    tree = _detached(source, read_only=True, propagation=_MS_PRIVATE)
    try:
        attach(tree, target)
    finally:
        os.close(tree)


def attach(tree: int, target: Path) -> None:
    """Mount at `target` what a descriptor stands for; once for each descriptor."""
    place = (tree, b"", _AT_FDCWD, os.fsencode(target), _MOVE_MOUNT_F_EMPTY_PATH)
    _checked(_libc.syscall(_SYS_MOVE_MOUNT, *place), "move_mount", target)


def hold(mounted: Path) -> int:
    """A descriptor that keeps what is on top of `mounted` when it is unmounted there, for `attach`."""
    return _detached(mounted, read_only=False, propagation=_MS_PRIVATE)


def detached_mount(source: Path, *, read_only: bool) -> int:
    """A view of `source` to be attached in another mount namespace: the descriptor of a mount that is nowhere.

    What is mounted below `source` later appears in it, wherever it is attached by then.
    """
    return _detached(source, read_only=read_only, propagation=_MS_SLAVE)


def _detached(source: Path, *, read_only: bool, propagation: int) -> int:
    tree = _checked(
        _libc.syscall(_SYS_OPEN_TREE, _AT_FDCWD, os.fsencode(source), _OPEN_TREE_CLONE | os.O_CLOEXEC),
        "open_tree",
        source,
    )
    flags = _MOUNT_ATTR_NOSUID | _MOUNT_ATTR_NODEV | (_MOUNT_ATTR_RDONLY if read_only else 0)
    attributes = struct.pack("=QQQQ", flags, 0, propagation, 0)
    try:
        _checked(
            _libc.syscall(_SYS_MOUNT_SETATTR, tree, b"", _AT_EMPTY_PATH, attributes, len(attributes)),
            "mount_setattr",
            source,
        )
    except BaseException:
        os.close(tree)
        raise
    return tree


def mount_overlay(layers: tuple[Path, ...], target: Path) -> None:
    """A read-only union of `layers`; where two have the same path, the later one wins."""
    lower = ":".join(str(layer).replace("\\", "\\\\").replace(":", "\\:") for layer in reversed(layers))
    if len(lower) < _LONGEST_OPTIONS:
        _mount("overlay", target, "overlay", _MS_RDONLY | _MS_NOSUID | _MS_NODEV, f"lowerdir={lower}")
        return
    # Too long for mount(2), which takes one page of options; layer by layer since Linux 6.5.
    context = _checked(_libc.syscall(_SYS_FSOPEN, b"overlay", _FSOPEN_CLOEXEC), "fsopen")
    try:
        for layer in reversed(layers):
            told = (context, _FSCONFIG_SET_STRING, b"lowerdir+", os.fsencode(layer), 0)
            _checked(_libc.syscall(_SYS_FSCONFIG, *told), "fsconfig", layer)
        _checked(_libc.syscall(_SYS_FSCONFIG, context, _FSCONFIG_CMD_CREATE, None, None, 0), "fsconfig")
        attributes = _MOUNT_ATTR_RDONLY | _MOUNT_ATTR_NOSUID | _MOUNT_ATTR_NODEV
        tree = _checked(_libc.syscall(_SYS_FSMOUNT, context, _FSMOUNT_CLOEXEC, attributes), "fsmount")
    finally:
        os.close(context)
    try:
        attach(tree, target)
    finally:
        os.close(tree)


def mount_ext4(device: str, target: Path, options: str) -> None:
    _mount(device, target, "ext4", _MS_NOSUID | _MS_NODEV | _MS_NOATIME, options)


def detach(target: Path) -> None:
    """Lazily unmount what is on top of `target`; not being a mount point is fine."""
    if _libc.umount2(os.fsencode(target), _MNT_DETACH) < 0:
        number = ctypes.get_errno()
        if number not in (2, 22):
            raise OSError(number, f"umount2: {os.strerror(number)}", str(target))


def sync_file_system(directory: Path) -> None:
    """Return once all that was written to the directory's file system is on its disk."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _checked(_libc.syncfs(descriptor), "syncfs", directory)
    finally:
        os.close(descriptor)


def unshare_network() -> None:
    """Give the calling thread a network namespace of its own."""
    _checked(_libc.unshare(CLONE_NEWNET), "unshare(CLONE_NEWNET)")


def enter_network(namespace: int) -> None:
    """Move the calling thread into the network namespace that the descriptor names."""
    _checked(_libc.setns(namespace, CLONE_NEWNET), "setns(CLONE_NEWNET)")


def bring_up(interface: str, socket: int) -> None:
    request = struct.pack("16sh14x", interface.encode(), 0)
    flags = struct.unpack_from("16sh", fcntl.ioctl(socket, _SIOCGIFFLAGS, request))[1]
    fcntl.ioctl(socket, _SIOCSIFFLAGS, struct.pack("16sh14x", interface.encode(), flags | _IFF_UP))


def attach_loop(image: int) -> tuple[int, str]:
    """A loop device over the open file `image`: its descriptor and name.

    The kernel frees the device when its last user is gone: the mount, or the descriptor if none was made.
    """
    with open("/dev/loop-control", "rb", buffering=0) as control:
        while True:
            number = fcntl.ioctl(control, _LOOP_CTL_GET_FREE)
            name = f"/dev/loop{number}"
            device = _open_loop(name, number)
            # struct loop_config (linux/loop.h): the file and the block size, then struct loop_info64.
            config = bytearray(304)
            struct.pack_into("=II", config, 0, image, 0)
            struct.pack_into("=I", config, 8 + 52, _LO_FLAGS_AUTOCLEAR)
            try:
                fcntl.ioctl(device, _LOOP_CONFIGURE, bytes(config))
            except OSError as error:
                os.close(device)
                if error.errno == 16:  # EBUSY: somebody else was quicker
                    continue
                raise
            return device, name


def _open_loop(name: str, number: int) -> int:
    try:
        return os.open(name, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        # A container's /dev does not gain the nodes of devices made later.
        os.mknod(name, stat.S_IFBLK | 0o600, os.makedev(7, number))
        return os.open(name, os.O_RDWR | os.O_CLOEXEC)

"""What a killed instance left in its slots is ended by the next start."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lambay.runtime import kernel
from lambay.runtime.leftovers import end_slots

SLOTS = 20


def mounted_below(directory: Path) -> list[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [path for path in (line.split()[4] for line in lines) if Path(path).is_relative_to(directory)]


@pytest.fixture
def slots(tmp_path: Path) -> Iterator[Path]:
    """Slots as a fleet has them: each with its code and a larger /tmp."""
    slots = tmp_path / "slots"
    slots.mkdir()
    kernel.make_mount_point(slots, shared=False)
    for number in range(SLOTS):
        root = slots / str(number)
        for name in ("var/task", "tmp"):
            (root / name).mkdir(parents=True)
        kernel.make_mount_point(root, shared=True)
        kernel.bind_read_only(root, root / "var/task")
        subprocess.run(["mount", "-t", "tmpfs", "none", root / "tmp"], check=True)
        (root / "tmp/file").touch()
    yield slots
    for path in reversed(mounted_below(tmp_path)):
        kernel.detach(Path(path))


def test_nothing_stays_mounted(slots: Path) -> None:
    end_slots(slots)
    assert mounted_below(slots) == []


def test_mounts_of_a_thousand_slots_end_by_one_call(slots: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each waits for the kernel to be done with the mount: one by one, the next start took half a minute."""
    detached: list[Path] = []
    detach = kernel.detach

    def detach_and_tell(path: Path) -> None:
        detached.append(path)
        detach(path)

    monkeypatch.setattr(kernel, "detach", detach_and_tell)
    monkeypatch.setattr("lambay.runtime.leftovers.Tree.remove", lambda tree: None)
    end_slots(slots)
    assert detached == [slots]


def test_slots_of_a_start_that_was_killed_twice_end_too(slots: Path) -> None:
    kernel.make_mount_point(slots, shared=False)
    end_slots(slots)
    assert mounted_below(slots) == []


@pytest.mark.parametrize("found", ["var/task", "mnt/efs", "tmp"])
def test_a_slot_half_made_or_half_removed_ends_too(tmp_path: Path, found: str) -> None:
    """It stayed for ever, and each stop that came to it failed."""
    slots = tmp_path / "slots"
    (slots / "7" / found).mkdir(parents=True)
    end_slots(slots)
    assert list(slots.iterdir()) == []

"""The client and supervisor of fsd, against a small server that speaks its protocol and misbehaves."""

import asyncio
import errno
import logging
import os
import signal
import stat
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest

from lambay.fsd import Create, Fsd, FsdError, Mount, Permissions, PosixIdentity, supervisor
from lambay.settings import Settings

SERVER = """
import asyncio, json, os, sys

journal = open(__file__ + ".journal", "a")
late = []
connections = []

async def serve(reader, writer):
    connections.append(writer)
    def answer(request, result=None, error=None):
        reply = {"id": request["id"]}
        reply.update({"error": error} if error else {"result": result or {}})
        writer.write(json.dumps(reply).encode() + b"\\n")
    while line := await reader.readline():
        request = json.loads(line)
        journal.write(line.decode()); journal.flush()
        match request["op"]:
            case "hello" if os.path.exists(__file__ + ".stuck"):
                pass
            case "hello":
                answer(request, {"version": "9.9", "pid": os.getpid(), "transport": "classic", "more": 1})
            case "volume.usage" | "reset" | "mount" if request["volume"] == "late":
                late.append(request)
            case "volume.usage":
                answer(request, {"bytes": 4096, "files": 2})
                while late:
                    answer(late.pop(), {"bytes": 1, "files": 1})
            case "volume.open" if request["volume"] == "denied":
                answer(request, error={"code": "System", "message": "cannot open", "errno": 13})
            case "mount" if request["mount"] == "fatal":
                os._exit(3)
            case "mount" if request["mount"] == "garbage":
                writer.write(b"this is not JSON\\n")
            case "mount":
                answer(request, {"mount": request["mount"], "device": "0:77", "connection": 999999})
            case "mount.permit" | "mount.stall" | "mount.resume" | "mount.fail":
                answer(request, {"mount": request["mount"], "bypassing": 2})
            case "stats":
                counters = {"read_bytes": 1, "write_bytes": 2, "latency": 0.5}
                mounts = {f"m-{n}": counters for n in range(9000)}
                answer(request, {"volumes": {"fs-1": counters}, "mounts": mounts})
            case "shutdown":
                answer(request)
                print(json.dumps({"level": "WARN", "fields": {"message": "going", "n": 0}}), file=sys.stderr)
                await writer.drain()
                os._exit(0)
            case _:
                answer(request)
    if writer is connections[0]:
        os._exit(0)

async def main():
    path = sys.argv[sys.argv.index("--socket") + 1]
    if os.path.exists(__file__ + ".refuse"):
        print("no such luck", file=sys.stderr)
        sys.exit(7)
    server = await asyncio.start_unix_server(serve, path)
    print("ready", flush=True)
    await server.serve_forever()

asyncio.run(main())
"""


@pytest.fixture
def binary(tmp_path: Path) -> Path:
    path = tmp_path / "fsd"
    path.write_text(f"#!{sys.executable}\n{SERVER}")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture
async def fsd(tmp_path: Path, binary: Path) -> AsyncIterator[Fsd]:
    server = Fsd(Settings(data_dir=tmp_path), binary=binary)
    await server.start()
    yield server
    await server.stop()


def mount(name: str) -> Mount:
    return Mount(
        mount=name,
        volume="fs-1",
        mountpoint="/nowhere/at/all",
        root="/data",
        create=Create(uid=1, gid=2, mode=0o750),
        posix=PosixIdentity(uid=1000, gid=1000, gids=(5, 6)),
    )


def journal(binary: Path) -> str:
    return Path(f"{binary}.journal").read_text()


async def test_the_server_says_who_it_is(fsd: Fsd) -> None:
    hello = await fsd.hello()
    assert (hello.version, hello.transport) == ("9.9", "classic")
    assert fsd.running == hello


async def test_start_asks_for_the_run_directory_to_be_cleaned(fsd: Fsd, binary: Path, tmp_path: Path) -> None:
    assert f'"op":"cleanup","prefix":"{Settings(data_dir=tmp_path).run_dir}"' in journal(binary)


async def test_answers_may_come_in_any_order(fsd: Fsd) -> None:
    late = asyncio.create_task(fsd.usage("late"))
    await asyncio.sleep(0)
    assert (await fsd.usage("fs-1")).bytes == 4096
    assert (await late).bytes == 1


async def test_a_refusal_carries_code_message_and_errno(fsd: Fsd, tmp_path: Path) -> None:
    with pytest.raises(FsdError) as refused:
        await fsd.open_volume("denied", tmp_path)
    assert (refused.value.code, refused.value.message, refused.value.errno) == ("System", "cannot open", 13)


async def test_a_mount_goes_over_whole(fsd: Fsd, binary: Path) -> None:
    assert (await fsd.mount(mount("m-1"))).connection == 999999
    assert '"create":{"uid":1,"gid":2,"mode":488}' in journal(binary)
    assert '"posix":{"uid":1000,"gid":1000,"gids":[5,6]}' in journal(binary)


async def test_what_a_mount_may_changes_while_it_stands(fsd: Fsd, binary: Path) -> None:
    await fsd.mount(mount("m-1"))
    assert (await fsd.permit("m-1", Permissions(read_only=True, root_squash=True))).bypassing == 2
    for turn in (fsd.stall, fsd.resume, fsd.fail):
        assert (await turn("m-1")).mount == "m-1"
    said = journal(binary)
    assert '"op":"mount.permit","mount":"m-1","read_only":true,"root_squash":true}' in said
    assert all(f'"op":"mount.{turn}","mount":"m-1"}}' in said for turn in ("stall", "resume", "fail"))


async def test_a_mount_that_nobody_waits_for_is_undone(fsd: Fsd, binary: Path) -> None:
    waiting = asyncio.create_task(fsd.mount(Mount(mount="m-1", volume="late", mountpoint="/nowhere/at/all")))
    await fsd.hello()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await fsd.hello()
    assert '"op":"unmount","mount":"m-1"' in journal(binary)
    assert fsd.mounts_of("late") == []


async def test_counters_of_thousands_of_mounts_fit_in_one_answer(fsd: Fsd) -> None:
    stats = await fsd.stats()
    assert len(stats.mounts) == 9000
    assert stats.volumes["fs-1"]["latency"] == 0.5


@pytest.mark.parametrize("death", ["fatal", "garbage"])
async def test_a_death_fails_the_pending_calls_and_tells_the_listeners(fsd: Fsd, death: str) -> None:
    lost: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
    fsd.on_death(lambda mounts: lost.set_result(sorted(mounts)))
    await fsd.mount(mount("m-1"))
    pending = asyncio.create_task(fsd.reset("late"))
    await asyncio.sleep(0)
    with pytest.raises(FsdError, match="ServerDied"):
        await fsd.mount(mount(death))
    with pytest.raises(FsdError, match="ServerDied"):
        await pending
    assert await lost == ["m-1"]


async def test_after_a_death_the_volumes_are_open_again(fsd: Fsd, binary: Path, tmp_path: Path) -> None:
    await fsd.open_volume("fs-1", tmp_path)
    await fsd.open_volume("fs-2", tmp_path)
    await fsd.close_volume("fs-2")
    first = (await fsd.hello()).pid
    os.kill(first, signal.SIGKILL)
    assert (await fsd.usage("fs-1")).files == 2
    assert (await fsd.hello()).pid != first
    assert journal(binary).count('"op":"volume.open","volume":"fs-1"') == 2
    assert journal(binary).count('"op":"volume.open","volume":"fs-2"') == 1
    # Whose locks functions have to leave alone is known before the first mount.
    assert journal(binary).count('"nfs_state":"') == 3


async def test_a_question_that_died_with_its_server_is_asked_again(fsd: Fsd) -> None:
    question = asyncio.create_task(fsd.usage("late"))
    await asyncio.sleep(0)
    with pytest.raises(FsdError, match="ServerDied"):
        await fsd.mount(mount("fatal"))
    await fsd.usage("fs-1")
    assert (await question).bytes == 1


async def test_a_mount_that_died_with_its_server_counts_as_unmounted(fsd: Fsd) -> None:
    await fsd.mount(mount("m-1"))
    with pytest.raises(FsdError):
        await fsd.mount(mount("fatal"))
    await fsd.unmount("m-1")


async def test_a_slow_answer_is_no_reason_to_end_the_server(
    fsd: Fsd, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await fsd.hello()
    monkeypatch.setattr(supervisor, "_CALL_SECONDS", 0.2)
    with pytest.raises(FsdError, match="Timeout"):
        await fsd.usage("late")
    assert await fsd.hello() == before


async def test_a_server_that_is_stuck_is_replaced(
    fsd: Fsd, binary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await fsd.hello()
    monkeypatch.setattr(supervisor, "_CALL_SECONDS", 0.2)
    monkeypatch.setattr(supervisor, "_PROBE_SECONDS", 0.2)
    stuck = Path(f"{binary}.stuck")
    stuck.touch()
    with pytest.raises(FsdError, match="Timeout"):
        await fsd.hello()
    stuck.unlink()
    monkeypatch.undo()
    assert (await fsd.hello()).pid != before.pid


async def test_a_start_that_fails_is_told_and_tried_again(
    fsd: Fsd, binary: Path, caplog: pytest.LogCaptureFixture
) -> None:
    refuse = Path(f"{binary}.refuse")
    refuse.touch()
    tried = asyncio.Event()
    fsd.on_death(lambda _: tried.set() if "cannot restart" in caplog.text else None)
    with pytest.raises(FsdError):
        await fsd.mount(mount("fatal"))
    await tried.wait()
    assert "no such luck" in caplog.text
    assert fsd.running is None
    refuse.unlink()
    assert (await fsd.usage("fs-1")).files == 2


async def test_stop_ends_the_process_and_removes_the_socket(fsd: Fsd, tmp_path: Path) -> None:
    pid = (await fsd.hello()).pid
    await fsd.stop()
    assert not Path(f"/proc/{pid}").exists()
    assert not Settings(data_dir=tmp_path).run_dir.exists()
    with pytest.raises(FsdError, match="NotRunning"):
        await fsd.hello()


async def test_the_logs_of_the_server_are_ours(fsd: Fsd, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "lambay.fsd")
    await fsd.stop()
    assert ("lambay.fsd", logging.WARNING, "going n=0") in caplog.record_tuples


async def test_a_server_left_behind_is_ended_at_the_next_start(binary: Path, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path)
    settings.run_dir.mkdir(parents=True, exist_ok=True)
    left = await asyncio.create_subprocess_exec(
        binary, "--socket", str(settings.run_dir / "fsd.sock"), stdout=asyncio.subprocess.PIPE
    )
    assert left.stdout is not None
    await left.stdout.readline()
    (settings.run_dir / "fsd.pid").write_text(str(left.pid))
    fsd = Fsd(settings, binary=binary)
    await fsd.start()
    assert await left.wait() == -signal.SIGKILL
    assert (await fsd.hello()).pid != left.pid
    await fsd.stop()


@pytest.mark.parametrize(
    ("break_it", "says"),
    [
        (lambda binary: binary.unlink(), "make setup"),
        (lambda binary: Path(f"{binary}.refuse").touch(), "status 7"),
    ],
)
async def test_a_first_start_that_cannot_be_says_why(
    binary: Path, tmp_path: Path, break_it: Callable[[Path], None], says: str
) -> None:
    break_it(binary)
    fsd = Fsd(Settings(data_dir=tmp_path), binary=binary)
    with pytest.raises(FsdError, match=says):
        await fsd.start()
    await fsd.stop()


async def test_a_lost_mount_fails_until_its_owner_lets_go_of_it(tmp_path: Path) -> None:
    volume, mountpoint = tmp_path / "volume", tmp_path / "mountpoint"
    for directory in (volume, mountpoint):
        directory.mkdir()
    wanted = Mount(mount="m-1", volume="fs-1", mountpoint=str(mountpoint), posix=PosixIdentity(0, 0))
    fsd = Fsd(Settings(data_dir=tmp_path))
    seen: list[OSError] = []

    def look(lost: Sequence[str]) -> None:
        assert lost == ["m-1"]
        with pytest.raises(OSError, match=str(mountpoint)) as refused:
            list(mountpoint.iterdir())
        seen.append(refused.value)

    fsd.on_death(look)
    await fsd.start()
    await fsd.open_volume("fs-1", volume)
    await fsd.mount(wanted)
    await asyncio.to_thread((mountpoint / "file").touch)
    os.kill((await fsd.hello()).pid, signal.SIGKILL)
    await fsd.hello()
    assert [error.errno for error in seen] == [errno.ENOTCONN]
    with pytest.raises(OSError, match=str(mountpoint)):
        list(mountpoint.iterdir())
    await fsd.unmount("m-1")
    assert list(mountpoint.iterdir()) == []
    await fsd.mount(wanted)
    os.kill((await fsd.hello()).pid, signal.SIGKILL)
    await fsd.hello()
    await fsd.mount(wanted)
    assert await asyncio.to_thread(lambda: list(mountpoint.iterdir())) == [mountpoint / "file"]
    await fsd.stop()
    assert list(mountpoint.iterdir()) == []


async def test_when_its_supervisor_is_killed_the_real_server_unmounts_and_ends(tmp_path: Path) -> None:
    (tmp_path / "volume").mkdir()
    mountpoint = tmp_path / "mountpoint"
    mountpoint.mkdir()
    supervisor = await asyncio.create_subprocess_exec(
        sys.executable, "-c", DYING_SUPERVISOR, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert supervisor.stdout is not None
    server = os.pidfd_open(int(await supervisor.stdout.readline()))
    assert mountpoint.is_mount()
    supervisor.kill()
    await supervisor.wait()
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().add_reader(server, lambda: ended.done() or ended.set_result(None))
    async with asyncio.timeout(20):
        await ended
    asyncio.get_running_loop().remove_reader(server)
    os.close(server)
    assert not mountpoint.is_mount()


DYING_SUPERVISOR = """
import asyncio, sys
from pathlib import Path
from lambay.fsd import Fsd, Mount
from lambay.settings import Settings

async def main():
    directory = Path(sys.argv[1])
    fsd = Fsd(Settings(data_dir=directory))
    await fsd.start()
    await fsd.open_volume("fs-1", directory / "volume")
    await fsd.mount(Mount(mount="m-1", volume="fs-1", mountpoint=str(directory / "mountpoint")))
    print((await fsd.hello()).pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""

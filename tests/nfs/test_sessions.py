"""Clients, sessions and exactly-once requests: RFC 8881 sections 2.10 and 18.35 to 18.51."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from . import wire
from .conftest import Door
from .wire import Client, Connection, User, create_session, exchange_id, sequence, u32, u64

CONFIRMED = 0x80000000
UPDATE = 0x40000000

Connect = Callable[..., Connection]


def introduced(connection: Connection, *arguments: bytes | int, **given: int) -> dict[str, int]:
    status, (result,) = connection.compound(exchange_id(*arguments, **given))  # type: ignore[arg-type]
    assert status == wire.OK
    value: dict[str, int] = result.value
    return value


def name() -> bytes:
    return b"client " + os.urandom(8)


def test_a_client_is_known_again_once_confirmed(connect: Connect) -> None:
    connection, owner = connect(), name()
    first = introduced(connection, owner)
    again = introduced(connection, owner)
    assert first["client"] != again["client"]
    assert not first["flags"] & CONFIRMED
    status, _ = connection.compound(create_session(first["client"], first["sequence"]))
    assert status == wire.STALE_CLIENTID
    assert connection.compound(create_session(again["client"], again["sequence"]))[0] == wire.OK

    known = introduced(connection, owner)

    assert known["client"] == again["client"]
    assert known["flags"] & CONFIRMED
    assert known["sequence"] == again["sequence"] + 1


def test_a_client_that_restarted_replaces_itself_and_what_it_held(connect: Connect) -> None:
    client = Client(connect(), ("fs-1",))
    client.open("restart")
    born_again = Client(connect(), ("fs-1",), owner=client.owner, verifier=b"2nd life")
    assert born_again.id != client.id
    assert client.status(u32(wire.PUTROOTFH)) == wire.BADSESSION


def test_another_user_does_not_take_a_client_over_that_holds_something(connect: Connect) -> None:
    client = Client(connect(), ("fs-1",))
    client.open("mine")
    status, _ = connect(User(uid=5)).compound(exchange_id(client.owner, b"intruder"))
    assert status == wire.CLID_INUSE


def test_updates_need_a_confirmed_client_of_the_same_life_and_user(connect: Connect) -> None:
    connection, owner = connect(), name()
    assert connection.compound(exchange_id(owner, flags=UPDATE))[0] == wire.NOENT
    client = Client(connection, owner=owner)
    assert introduced(connection, owner, flags=UPDATE)["client"] == client.id
    assert connection.compound(exchange_id(owner, b"another!", UPDATE))[0] == wire.NOT_SAME
    assert connect(User(uid=9)).compound(exchange_id(owner, flags=UPDATE))[0] == wire.PERM


def test_a_session_is_created_once_however_often_it_is_asked_for(connect: Connect) -> None:
    connection = connect()
    known = introduced(connection, name())
    first = connection.compound(create_session(known["client"], known["sequence"]))
    assert connection.compound(create_session(known["client"], known["sequence"])) == first
    status, _ = connection.compound(create_session(known["client"], known["sequence"] + 2))
    assert status == wire.SEQ_MISORDERED
    status, second = connection.compound(create_session(known["client"], known["sequence"] + 1))
    assert status == wire.OK
    assert second[0].value["session"] != first[1][0].value["session"]


@pytest.mark.parametrize(("fore", "back"), [(10, 4096), (8192, 10)])
def test_a_channel_too_small_is_refused_and_uses_up_no_sequence_number(
    connect: Connect, fore: int, back: int
) -> None:
    connection = connect()
    known = introduced(connection, name())
    head = u32(wire.CREATE_SESSION) + u64(known["client"]) + u32(known["sequence"], 0)
    small = head + wire.channel(request=fore) + wire.channel(request=back) + u32(0x40000000, 1, 0)

    assert [connection.compound(small)[0] for _ in range(3)] == [wire.TOOSMALL] * 3

    assert connection.compound(create_session(known["client"], known["sequence"]))[0] == wire.OK


@pytest.mark.parametrize("flags", [0x10, 0x8])
def test_flags_that_do_not_exist_are_refused(connect: Connect, flags: int) -> None:
    connection = connect()
    assert connection.compound(exchange_id(name(), flags=flags))[0] == wire.INVAL
    known = introduced(connection, name())
    status, _ = connection.compound(create_session(known["client"], known["sequence"], flags))
    assert status == wire.INVAL


def test_a_repeated_request_is_answered_and_not_done_again(client: Client) -> None:
    request = [
        sequence(client.session, client.number + 1, cache=True),
        *client.steps(),
        wire.create(2, "once"),
        u32(wire.GETFH),
    ]
    first = client.connection.compound(*request)
    assert first[0] == wire.OK
    assert client.connection.compound(*request) == first
    client.number += 1
    assert client.status(*client.steps(), wire.create(2, "once")) == wire.EXIST


def test_a_repeated_request_finds_its_answer_on_another_connection(client: Client, connect: Connect) -> None:
    request = [
        sequence(client.session, client.number + 1, cache=True),
        *client.steps(),
        wire.create(2, "moved"),
    ]
    first = client.connection.compound(*request)
    assert connect().compound(*request) == first


def test_sequence_numbers_out_of_order_and_slots_that_do_not_exist(client: Client) -> None:
    run = client.connection.compound
    assert run(sequence(client.session, client.number + 2))[0] == wire.SEQ_MISORDERED
    assert run(sequence(client.session, client.number - 1))[0] == wire.SEQ_MISORDERED
    assert run(sequence(client.session, 1, slot=1000))[0] == wire.BADSLOT
    assert run(sequence(bytes(16), 1))[0] == wire.BADSESSION
    assert client.status() == wire.OK, "none of them took the slot"


def test_an_answer_too_long_to_keep_is_not_given_twice(client: Client) -> None:
    _, state = client.open("long")
    client.ok(*client.steps("long"), wire.write(state, 0, bytes(8192)))
    request = [sequence(client.session, client.number + 1), *client.steps("long"), wire.read(state, 0, 8192)]
    assert client.connection.compound(*request)[0] == wire.OK
    client.number += 1
    assert client.connection.compound(*request)[0] == wire.RETRY_UNCACHED_REP


def test_where_operations_may_stand(client: Client) -> None:
    run = client.connection.compound
    assert run(u32(wire.PUTROOTFH))[0] == wire.OP_NOT_IN_SESSION
    assert run(exchange_id(name()), u32(wire.PUTROOTFH))[0] == wire.NOT_ONLY_OP
    assert client.status(sequence(client.session, 1)) == wire.SEQUENCE_POS
    assert run(u32(2))[0] == wire.OP_ILLEGAL
    assert run(u32(12345))[0] == wire.OP_ILLEGAL
    assert run(minor=0)[0] == wire.MINOR_VERS_MISMATCH
    assert run(minor=2)[0] == wire.MINOR_VERS_MISMATCH
    assert run() == (wire.OK, [])


def test_a_session_limits_operations_and_sizes(connect: Connect) -> None:
    connection = connect()
    known = introduced(connection, name())
    _, (result,) = connection.compound(
        create_session(known["client"], known["sequence"], request=600, response=600, operations=4)
    )
    session = result.value["session"]
    assert result.value["fore"][1:3] == [600, 600]
    status, _ = connection.compound(sequence(session, 1), *[u32(wire.PUTROOTFH)] * 4)
    assert status == wire.TOO_MANY_OPS
    status, _ = connection.compound(sequence(session, 2), wire.lookup("x" * 700))
    assert status == wire.REQ_TOO_BIG
    status, _ = connection.compound(create_session(known["client"], known["sequence"] + 1, request=20))
    assert status == 10005


def test_the_end_of_sessions_and_clients(client: Client, connect: Connect) -> None:
    other = connect()
    assert other.compound(u32(wire.DESTROY_CLIENTID) + u64(client.id))[0] == wire.CLIENTID_BUSY
    assert other.compound(u32(wire.DESTROY_SESSION) + client.session)[0] == wire.OK
    assert client.status() == wire.BADSESSION
    assert other.compound(u32(wire.DESTROY_SESSION) + client.session)[0] == wire.BADSESSION
    assert other.compound(u32(wire.DESTROY_CLIENTID) + u64(client.id))[0] == wire.OK
    assert other.compound(u32(wire.DESTROY_CLIENTID) + u64(client.id))[0] == wire.STALE_CLIENTID


def test_a_connection_is_bound_to_a_session_that_exists(client: Client, connect: Connect) -> None:
    bind = u32(wire.BIND_CONN) + client.session + u32(3, 0)
    status, (result,) = connect().compound(bind)
    assert status == wire.OK
    assert result.value == (client.session, 3, 0)
    assert connect().compound(u32(wire.BIND_CONN) + bytes(16) + u32(1, 0))[0] == wire.BADSESSION


def test_nothing_is_taken_before_reclaiming_is_complete(connect: Connect) -> None:
    client = Client(connect(), ("fs-1",), reclaims=True)
    opening = wire.open_(b"o", "early", create=wire.unchecked())
    assert client.status(*client.steps(), opening) == wire.GRACE
    client.reclaim_complete()
    assert client.status(*client.steps(), opening) == wire.OK
    assert client.status(u32(wire.RECLAIM_COMPLETE, 0)) == wire.COMPLETE_ALREADY
    late = wire.open_(b"o", claim=u32(1, 0))
    assert client.status(*client.steps("early"), late) == wire.NO_GRACE


def test_stateids_are_tested_one_by_one_and_freed_when_idle(client: Client) -> None:
    handle, opened = client.open("tested")
    (_, locked) = client.ok(wire.putfh(handle), wire.lock_new(2, 0, 10, opened, b"l"))
    unknown = wire.StateId(1, b"unknown state"[:12])
    asked = u32(wire.TEST_STATEID, 3) + opened.encoded() + locked.encoded() + unknown.encoded()
    assert client.ok(asked) == [[wire.OK, wire.OK, wire.BAD_STATEID]]
    free = u32(wire.FREE_STATEID) + locked.encoded()
    assert client.status(free) == 10037
    (_, unlocked) = client.ok(wire.putfh(handle), wire.unlock(locked, 0, 10))
    assert client.status(u32(wire.FREE_STATEID) + unlocked.encoded()) == wire.OK
    assert client.status(u32(wire.FREE_STATEID) + unlocked.encoded()) == wire.BAD_STATEID


def test_roots_of_their_own_are_servers_of_their_own(door: Door, connect: Connect) -> None:
    owner = name()
    everything = introduced(connect(), owner)
    alone = introduced(connect(port=door.alone.getsockname()[1]), owner)
    assert everything["major"] != alone["major"], "or a client would send both over one connection"
    session = Client(connect(), owner=owner).session
    assert connect(port=door.alone.getsockname()[1]).compound(sequence(session, 2))[0] == wire.BADSESSION

"""Clients of `bench.invoke`'s throughput rows: some connections in one process, each with one request under way.

    python -m bench.invoke_client ENDPOINT FUNCTION SECONDS CONNECTIONS

Warms up, waits for its cue, counts what it gets answered.
"""

from __future__ import annotations

import selectors
import sys
import time

from bench.invoke import RawClient


def main() -> None:
    endpoint, function, seconds, connections = sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4])
    clients = [RawClient(endpoint, function) for _ in range(connections)]
    for _ in range(5):
        turn(clients, rounds=1)
    print("ready", flush=True)
    sys.stdin.readline()
    print(turn(clients, seconds=seconds))


def turn(clients: list[RawClient], *, seconds: float = 60.0, rounds: int = 1 << 60) -> int:
    """Invocations answered, every client asking again as soon as it has its answer."""
    with selectors.DefaultSelector() as ready:
        left = {}
        for client in clients:
            ready.register(client.socket, selectors.EVENT_READ, client)
            left[client] = rounds - 1
            client.send()
        count, under_way, end = 0, len(clients), time.perf_counter() + seconds
        while under_way:
            for key, _ in ready.select():
                client = key.data
                client.receive()
                count += 1
                if left[client] and time.perf_counter() < end:
                    left[client] -= 1
                    client.send()
                else:
                    under_way -= 1
        return count


if __name__ == "__main__":
    main()

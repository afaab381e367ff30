"""One client of `bench.invoke`'s throughput rows: warms up, waits for its cue, counts what it gets answered."""

from __future__ import annotations

import sys
import time

from bench.invoke import RawClient


def main() -> None:
    endpoint, function, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
    client = RawClient(endpoint, function)
    for _ in range(5):
        client.invoke()
    print("ready", flush=True)
    sys.stdin.readline()
    count, end = 0, time.perf_counter() + seconds
    while time.perf_counter() < end:
        client.invoke()
        count += 1
    print(count)


if __name__ == "__main__":
    main()

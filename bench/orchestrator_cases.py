"""The orchestrator benchmark's cases. Each sets up what it needs, measures, and returns its numbers."""

from __future__ import annotations

import asyncio
import random
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Any

import httpx
import psutil
from sqlalchemy import text

from bench.orchestrator_load import (
    KEYS,
    batches,
    fill_stream,
    fresh_app,
    percentile,
    running_runs,
    served,
    wait_until,
)
from server.hub import Message
from server.ingest import STREAM, Ingestor, store_batches

_FILLER = 2000
"""Bytes of a live message, about what the record of a run has."""


def ingest(num_runs: int, steps: int, size: int) -> dict[str, Any]:
    """From a filled Redis stream to committed SQLite: points a second, and how many are missing at the end."""
    with fresh_app() as app:
        runs = running_runs(app.state.store, num_runs, steps)
        connection = app.state.broker.redis
        fill_stream(connection, runs, steps, size)
        ingestor = Ingestor(app.state.broker, app.state.store)
        began, cpu = time.perf_counter(), time.process_time()
        ingestor.start()
        wait_until(lambda: connection.xlen(STREAM) == 0)  # an entry goes once it is committed
        took, cpu = time.perf_counter() - began, time.process_time() - cpu
        ingestor.stop()
        with app.state.store.db.read() as session:
            stored = session.execute(
                text("SELECT COUNT(*) FROM event, json_each(event.body, '$.values') WHERE event.type = 'metrics'")
            ).scalar_one()
        points = num_runs * steps * len(KEYS)
        return {
            "points": points,
            "points_lost": points - stored,
            "steps_per_entry": size,
            "seconds": took,
            "cpu_seconds": cpu,
            "points_per_s": points / took,
            "points_per_cpu_s": points / cpu,
            "database_mib": app.state.settings.database.stat().st_size / 2**20,
        }


def charts(num_runs: int, steps: int, requests: int, of: int = 10) -> dict[str, Any]:
    """Chart data over HTTP: `of` runs picked at random and three metrics, 600 points a line."""
    with fresh_app() as app:
        runs = running_runs(app.state.store, num_runs, steps)
        for run_id in runs:
            for batch in batches(run_id, steps, 2_000):
                store_batches(app.state.store, [batch])
        rng = random.Random(0)
        with served(app) as url, httpx.Client(base_url=url) as http:

            def ask() -> None:
                params = {"run_ids": ",".join(rng.sample(runs, of)), "keys": ",".join(rng.sample(KEYS, 3))}
                answer = http.get("/api/v1/metrics", params={**params, "max_points": "600"})
                lines = answer.raise_for_status().json()
                assert len(lines) == 3 * of and all(200 <= len(line["x"]) <= 600 for line in lines)

            return times_of(ask, requests)


def run_list(num_runs: int, requests: int) -> dict[str, Any]:
    """The listing of runs over HTTP, as clients page through it."""
    with fresh_app() as app:
        running_runs(app.state.store, num_runs, 100)
        with served(app) as url, httpx.Client(base_url=url) as http:
            return times_of(lambda: http.get("/api/v1/runs?limit=50").raise_for_status(), requests)


def streams(clients: int, stalled: int, messages: int) -> dict[str, Any]:
    """Live streams, some of whose readers never read: how late the others hear, and what it costs in memory.

    The server is a process of its own, which publishes a message every 100 ms with the time in it.
    """
    program = "from bench.orchestrator_cases import publish; import sys; publish(int(sys.argv[1]))"
    with subprocess.Popen(
        [sys.executable, "-c", program, str(messages)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdin is not None and server.stdout is not None
        url = server.stdout.readline().strip()
        process = psutil.Process(server.pid)

        def go() -> None:
            print("go", file=server.stdin, flush=True)

        try:
            return asyncio.run(_listen(url, process, go, clients, stalled, messages))
        finally:
            server.stdin.close()
            server.wait(30)


def publish(messages: int) -> None:
    """The server's side of `streams`: publishes once it is told to, and ends with its standard input."""
    with fresh_app() as app, served(app) as url:
        print(url, flush=True)
        for line in sys.stdin:
            for _ in range(messages if line == "go\n" else 0):
                data = f'{{"sent":{time.monotonic()},"filler":"{"x" * _FILLER}"}}'
                app.state.hub.publish(Message("run", data))
                time.sleep(0.1)


async def _listen(
    url: str, process: psutil.Process, go: Callable[[], None], clients: int, stalled: int, messages: int
) -> dict[str, Any]:
    lateness: list[float] = []

    async def read(response: httpx.Response) -> None:
        heard = 0
        async for line in response.aiter_lines():
            if line.startswith('data: {"sent":'):
                lateness.append(time.monotonic() - float(line[14 : line.index(",", 14)]))
                heard += 1
                if heard == messages:
                    return

    async with AsyncExitStack() as stack:
        for _ in range(stalled):
            stack.callback(_stalled_reader(url).close)
        http = await stack.enter_async_context(
            httpx.AsyncClient(base_url=url, timeout=120, limits=httpx.Limits(max_connections=None))
        )
        readers = [
            await stack.enter_async_context(http.stream("GET", "/api/v1/stream")) for _ in range(clients - stalled)
        ]
        before = process.memory_info().rss
        go()
        await asyncio.gather(*map(read, readers))
        growth = process.memory_info().rss - before
    return {
        "clients": clients,
        "stalled": stalled,
        "messages": messages,
        "message_bytes": _FILLER,
        "missed": messages * len(readers) - len(lateness),
        "median_ms": 1e3 * statistics.median(lateness),
        "p95_ms": 1e3 * percentile(lateness, 0.95),
        "slowest_ms": 1e3 * max(lateness),
        "growth_mib": growth / 2**20,
    }


def _stalled_reader(url: str) -> socket.socket:
    """Asks for the stream and reads none of it; what it has room for is small."""
    host, port = url.removeprefix("http://").split(":")
    reader = socket.socket()
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    reader.connect((host, int(port)))
    reader.sendall(f"GET /api/v1/stream HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
    return reader


def times_of(call: Callable[[], Any], count: int) -> dict[str, Any]:
    """Milliseconds of `count` calls, after one that is not counted; `cpu_ms` is what server and client computed."""
    call()
    found, cpu = [], time.process_time()
    for _ in range(count):
        began = time.perf_counter()
        call()
        found.append(1e3 * (time.perf_counter() - began))
    return {
        "requests": count,
        "cpu_ms": 1e3 * (time.process_time() - cpu) / count,
        "median_ms": statistics.median(found),
        "p95_ms": percentile(found, 0.95),
        "slowest_ms": max(found),
    }

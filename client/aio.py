"""The same client for asyncio: every method of `client.api.NatLab`, awaited.

async with AsyncNatLab() as lab:
    experiment = await lab.launch(spec)
    async for event in lab.live(experiment.id):
        ...
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import httpx

from client import calls, reported
from client.address import default_url
from client.api import http_options
from client.errors import ClientError
from client.exchange import Exchange, Item, Pause, Play, Request, Stream, Tries
from client.live import SILENT_FOR_S, LiveEvent, LiveReader, stream_request

P = ParamSpec("P")
T = TypeVar("T")


def _once(describe: Callable[P, Exchange[T]]) -> Callable[Concatenate[AsyncNatLab, P], Awaitable[T]]:
    @wraps(describe)
    async def call(self: AsyncNatLab, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._act_out(describe(*args, **kwargs))

    return call


def _many(describe: Callable[P, Stream[T]]) -> Callable[Concatenate[AsyncNatLab, P], AsyncIterator[T]]:
    @wraps(describe)
    def call(self: AsyncNatLab, /, *args: P.args, **kwargs: P.kwargs) -> AsyncIterator[T]:
        return self._give_out(describe(*args, **kwargs))

    return call


class AsyncNatLab:
    """A connection to a natlab server. Use as an async context manager, or await `close`.

    Args:
        url, token, timeout_s, retries: as of `NatLab`.
    """

    def __init__(
        self, url: str | None = None, token: str | None = None, timeout_s: float = 30.0, retries: int = 4
    ) -> None:
        self.url = (url or default_url()).rstrip("/")
        self.retries = retries
        self._http = httpx.AsyncClient(**http_options(self.url, token, timeout_s))

    async def __aenter__(self) -> AsyncNatLab:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    launch = _once(calls.launch)
    plan = _once(calls.plan)
    experiment = _once(calls.experiment)
    experiments = _once(calls.experiments)
    edit_experiment = _once(calls.edit_experiment)
    archive_experiment = _once(calls.archive_experiment)
    unarchive_experiment = _once(calls.unarchive_experiment)
    stop_experiment = _once(calls.stop_experiment)
    delete_experiment = _once(calls.delete_experiment)
    compare = _once(calls.compare)
    report = _once(calls.report)
    wait = _once(calls.wait)
    run = _once(calls.run)
    runs = _once(calls.runs)
    edit_run = _once(calls.edit_run)
    archive_run = _once(calls.archive_run)
    unarchive_run = _once(calls.unarchive_run)
    delete_run = _once(calls.delete_run)
    stop = _once(calls.stop)
    pause = _once(calls.pause)
    resume = _once(calls.resume)
    kill = _once(calls.kill)
    metric_series = _once(reported.metric_series)
    metrics = _once(reported.metrics)
    events = _many(reported.events)
    logs = _once(reported.logs)
    checkpoints = _once(reported.checkpoints)
    workers = _once(calls.workers)
    gc = _once(calls.gc)
    server_version = _once(calls.server_version)
    is_ready = _once(calls.is_ready)

    async def live(self, experiment_id: str | None = None, run_id: str | None = None) -> AsyncIterator[LiveEvent]:
        """What happens from now on, as it happens: of one experiment, of one run, or everything. It has no end.

        It begins with `Resync`. A server that goes away is waited for; then it tells what was missed, or says `Resync`.
        """
        request = stream_request(experiment_id, run_id)
        tries, reader = Tries(request, self.url, self.retries), LiveReader()
        arguments = request.for_httpx() | {"timeout": httpx.Timeout(10.0, read=SILENT_FOR_S)}
        while True:
            outcome: httpx.Response | Exception
            try:
                arguments["headers"] = reader.headers
                async with self._http.stream(**arguments) as outcome:
                    if outcome.is_success:
                        tries = Tries(request, self.url, self.retries)
                        for event in reader.begin():
                            yield event
                        async for line in outcome.aiter_lines():
                            if (told := reader.feed(line)) is not None:
                                yield told
                        outcome = httpx.RemoteProtocolError("the stream ended")
                    else:
                        await outcome.aread()
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                outcome = error
            if isinstance(pause := tries.after(outcome), float):
                await asyncio.sleep(pause)

    # --- acting out -------------------------------------------------------------------------------

    async def _act_out(self, exchange: Exchange[T]) -> T:
        play = Play(exchange)
        while (step := play.next()) is not None:
            await self._do(play, step)
        result: T = play.result
        return result

    async def _give_out(self, stream: Stream[T]) -> AsyncIterator[T]:
        play = Play(stream)
        while (step := play.next()) is not None:
            if isinstance(step, Item):
                yield step.value
            else:
                await self._do(play, step)

    async def _do(self, play: Play, step: Request | Pause | Item[Any]) -> None:
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
        elif isinstance(step, Request):
            try:
                play.answer(await self._send(step))
            except ClientError as error:
                play.fail(error)

    async def _send(self, request: Request) -> httpx.Response:
        tries = Tries(request, self.url, self.retries)
        while True:
            outcome: httpx.Response | Exception
            try:
                outcome = await self._http.request(**request.for_httpx())
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                outcome = error
            settled = tries.after(outcome)
            if isinstance(settled, httpx.Response):
                return settled
            await asyncio.sleep(settled)

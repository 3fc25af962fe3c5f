"""natlab's REST API as a Python class, blocking; `client.aio.AsyncNatLab` is the same for asyncio.

    from client import NatLab
    lab = NatLab()
    experiment = lab.launch({"name": "half the tokens", "budgets": [{"selector": "full"}, {"selector": "rpc"}]})
    lab.wait(experiment)
    print(lab.compare(experiment).headline)
    print(lab.metrics(experiment, ["reward", "eval/accuracy"]))

Every method is described once, in `client.calls`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import httpx

from client import calls, reported
from client.address import DEFAULT_PORT, check_url, default_home, default_token, default_url
from client.errors import ApiError, ClientError, ServerUnreachable, WaitedTooLong
from client.exchange import Exchange, Item, Pause, Play, Request, Stream, Tries
from client.live import SILENT_FOR_S, LiveEvent, LiveReader, stream_request
from nat_core.authorities import trusted
from nat_core.version import __version__

__all__ = [
    "DEFAULT_PORT",
    "ApiError",
    "ClientError",
    "NatLab",
    "ServerUnreachable",
    "WaitedTooLong",
    "default_home",
    "default_token",
    "default_url",
]

KEPT_OPEN_S = 3.0
"""For an idle connection: less than the server's five, or a request now and then meets its end, and is lost."""

P = ParamSpec("P")
T = TypeVar("T")


def http_options(url: str, token: str | None, timeout_s: float) -> dict[str, Any]:
    """How either client sets up httpx. A proxy named in the environment is for the outside, not for one's own server.

    Raises:
        ClientError: when the address is none, or the token or the certificates in the environment cannot be used.
    """
    check_url(url)
    headers = {"User-Agent": f"natlab-client/{__version__}"}
    token = token or default_token(url)
    if token:
        headers["Authorization"] = f"Bearer {token}"
    return {
        "base_url": url,
        "headers": headers,
        "timeout": timeout_s,
        "limits": httpx.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=KEPT_OPEN_S),
        "trust_env": False,
        "verify": trusted(url, ClientError),
    }


def _once(describe: Callable[P, Exchange[T]]) -> Callable[Concatenate[NatLab, P], T]:
    @wraps(describe)
    def call(self: NatLab, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._act_out(describe(*args, **kwargs))

    return call


def _many(describe: Callable[P, Stream[T]]) -> Callable[Concatenate[NatLab, P], Iterator[T]]:
    @wraps(describe)
    def call(self: NatLab, /, *args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        return self._give_out(describe(*args, **kwargs))

    return call


class NatLab:
    """A connection to a natlab server. Use as a context manager, or call `close`.

    Args:
        url: base address; without it `NATLAB_URL`, else the loopback address at `NATLAB_PORT`.
        token: without it `NATLAB_TOKEN`, else the content of the file `NATLAB_TOKEN_FILE`, else, for a server on this
            machine, the one in its data folder `NATLAB_HOME`.
        timeout_s: seconds to wait for any one answer.
        retries: how often a request is repeated that did nothing or may be repeated; 4 are about three seconds.
    """

    def __init__(
        self, url: str | None = None, token: str | None = None, timeout_s: float = 30.0, retries: int = 4
    ) -> None:
        self.url = (url or default_url()).rstrip("/")
        self.retries = retries
        self._http = httpx.Client(**http_options(self.url, token, timeout_s))

    def __enter__(self) -> NatLab:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

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

    def live(self, experiment_id: str | None = None, run_id: str | None = None) -> Iterator[LiveEvent]:
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
                with self._http.stream(**arguments) as outcome:
                    if outcome.is_success:
                        tries = Tries(request, self.url, self.retries)
                        yield from reader.begin()
                        for line in outcome.iter_lines():
                            if (told := reader.feed(line)) is not None:
                                yield told
                        outcome = httpx.RemoteProtocolError("the stream ended")
                    else:
                        outcome.read()
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                outcome = error
            if isinstance(pause := tries.after(outcome), float):
                time.sleep(pause)

    # --- acting out -------------------------------------------------------------------------------

    def _act_out(self, exchange: Exchange[T]) -> T:
        play = Play(exchange)
        while (step := play.next()) is not None:
            self._do(play, step)
        result: T = play.result
        return result

    def _give_out(self, stream: Stream[T]) -> Iterator[T]:
        play = Play(stream)
        while (step := play.next()) is not None:
            if isinstance(step, Item):
                yield step.value
            else:
                self._do(play, step)

    def _do(self, play: Play, step: Request | Pause | Item[Any]) -> None:
        if isinstance(step, Pause):
            time.sleep(step.seconds)
        elif isinstance(step, Request):
            try:
                play.answer(self._send(step))
            except ClientError as error:
                play.fail(error)

    def _send(self, request: Request) -> httpx.Response:
        tries = Tries(request, self.url, self.retries)
        while True:
            outcome: httpx.Response | Exception
            try:
                outcome = self._http.request(**request.for_httpx())
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                outcome = error
            settled = tries.after(outcome)
            if isinstance(settled, httpx.Response):
                return settled
            time.sleep(settled)

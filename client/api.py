"""natlab's REST API as a Python class.

    from client.api import NatLab
    lab = NatLab()
    experiment = lab.launch({"name": "half the tokens", "budgets": [{"selector": "full"}, {"selector": "rpc"}]})
    lab.wait(experiment.id)
    print(lab.comparison(experiment.id).headline)

ClientError(NatlabError)
├── ApiError              the server answered with a problem document, kept in `.problem`
└── ServerUnreachable     nothing answers at the address
"""

from __future__ import annotations

import ipaddress
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit

import httpx
from pydantic import TypeAdapter, ValidationError

from nat_core.comparison import Comparison
from nat_core.errors import NatlabError
from nat_core.records import Action, ExperimentRecord, MetricSeries, Page, Problem, RunDetail, RunRecord, WorkerRecord
from nat_core.spec import ExperimentSpec
from nat_core.version import __version__

DEFAULT_PORT = 8300
T = TypeVar("T")


class ClientError(NatlabError):
    """Base of what the client raises."""


class ApiError(ClientError):
    """The server refused a request; `problem` is its RFC 9457 document."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail or problem.title)
        self.problem = problem
        self.code = problem.code


class ServerUnreachable(ClientError):
    """Nothing answers at the server's address."""

    code = "server_unreachable"


class NatLab:
    """A connection to a natlab server. Use as a context manager, or call `close`.

    Args:
        url: base address; without it `NATLAB_URL`, else the loopback address at `NATLAB_PORT`.
        token: without it `NATLAB_TOKEN`, else the content of the file `NATLAB_TOKEN_FILE`, else, for a server on this
            machine, the one in its data folder `NATLAB_HOME`.
        timeout_s: seconds to wait for any one answer.
    """

    def __init__(self, url: str | None = None, token: str | None = None, timeout_s: float = 30.0) -> None:
        self.url = (url or default_url()).rstrip("/")
        headers = {"User-Agent": f"natlab-client/{__version__}"}
        token = token or default_token(self.url)
        if token:
            headers["Authorization"] = f"Bearer {token}"
        # A proxy named in the environment is for the outside, not for one's own server.
        self._http = httpx.Client(base_url=self.url, headers=headers, timeout=timeout_s, trust_env=False)

    def __enter__(self) -> NatLab:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    # --- experiments ------------------------------------------------------------------------------

    def launch(self, spec: ExperimentSpec | Mapping[str, Any], priority: int = 0) -> ExperimentRecord:
        """Store an experiment and queue its runs.

        Args:
            priority: of those that wait, runs with a higher one start first.

        Raises:
            ApiError: code `bad_spec`, `data` or `model` when an input is wrong, `broker_unavailable` when
                Redis cannot be reached.
        """
        body = spec.model_dump(mode="json") if isinstance(spec, ExperimentSpec) else dict(spec)
        params = {"priority": priority} if priority else {}
        return self._ask(ExperimentRecord, "POST", "/api/v1/experiments", json=body, params=params)

    def experiment(self, experiment_id: str) -> ExperimentRecord:
        return self._ask(ExperimentRecord, "GET", f"/api/v1/experiments/{_segment(experiment_id)}")

    def experiments(self, archived: bool = False, limit: int | None = None) -> list[ExperimentRecord]:
        """Experiments, newest first; all of them unless `limit` says how many."""
        found: list[ExperimentRecord] = []
        cursor: str | None = None
        while True:
            params = _given(archived=archived, limit=min(limit or 100, 100), cursor=cursor)
            page = self._ask(Page[ExperimentRecord], "GET", "/api/v1/experiments", params=params)
            found += page.items
            cursor = page.next_cursor
            if cursor is None or (limit is not None and len(found) >= limit):
                return found[:limit]

    def comparison(self, experiment_id: str) -> Comparison:
        """What the experiment's budgets cost and saved, against its baseline."""
        return self._ask(Comparison, "GET", f"/api/v1/experiments/{_segment(experiment_id)}/comparison")

    def report(self, experiment_id: str) -> str:
        """The experiment's answer, tables and figures as one self-contained HTML file."""
        return self._send("GET", f"/api/v1/experiments/{_segment(experiment_id)}/report").text

    def wait(
        self,
        experiment_id: str,
        on_progress: Callable[[ExperimentRecord], None] | None = None,
        every_s: float = 0.5,
    ) -> ExperimentRecord:
        """Poll until every run of an experiment has ended, and return it.

        Args:
            on_progress: called with the experiment after every poll, the last one included.
            every_s: seconds between polls.
        """
        while True:
            experiment = self.experiment(experiment_id)
            if on_progress is not None:
                on_progress(experiment)
            if all(run.state.is_final for run in experiment.runs):
                return experiment
            time.sleep(every_s)

    # --- runs -------------------------------------------------------------------------------------

    def run(self, run_id: str) -> RunDetail:
        return self._ask(RunDetail, "GET", f"/api/v1/runs/{_segment(run_id)}")

    def stop(self, run_id: str) -> RunRecord:
        """Ask a run to save a checkpoint and end; a run that waits is stopped at once.

        Raises:
            ApiError: code `illegal_transition` when it has ended already; so do the others where the run's
                `actions` do not list them.
        """
        return self._act(run_id, "stop")

    def pause(self, run_id: str) -> RunRecord:
        """Ask a run to save a checkpoint and free its worker until it is resumed."""
        return self._act(run_id, "pause")

    def resume(self, run_id: str) -> RunRecord:
        """Queue a paused run again; it goes on from its checkpoint exactly."""
        return self._act(run_id, "resume")

    def kill(self, run_id: str) -> RunRecord:
        """End a run within ten seconds and without a checkpoint."""
        return self._act(run_id, "kill")

    def _act(self, run_id: str, action: Action) -> RunRecord:
        return self._ask(RunRecord, "POST", f"/api/v1/runs/{_segment(run_id)}/{action}")

    def metrics(
        self,
        run_ids: Sequence[str],
        keys: Sequence[str],
        x: str = "step",
        since: int | None = None,
        max_points: int | None = None,
    ) -> list[MetricSeries]:
        """Values of metrics of several runs.

        Args:
            keys: names from `nat_core.events.METRICS`.
            x: `step`, the time so far `wall_s`, or a running total: `tokens_selected`, `tokens_generated`, `update_s`.
            since: leave out this step and everything before it.
            max_points: most points in one series.
        """
        params = _given(run_ids=",".join(run_ids), keys=",".join(keys), x=x, since=since, max_points=max_points)
        return self._ask(list[MetricSeries], "GET", "/api/v1/metrics", params=params)

    def workers(self) -> list[WorkerRecord]:
        return self._ask(list[WorkerRecord], "GET", "/api/v1/workers")

    def gc(self, archived_days: float | None = None, dry_run: bool = False) -> dict[str, Any]:
        """Have the server give disk space back; what went, or would go (see `SweepReport` in the API's document)."""
        body = {"archived_days": archived_days, "dry_run": dry_run}
        return self._ask(dict[str, Any], "POST", "/api/v1/gc", json=body, timeout=600.0)

    def is_ready(self) -> bool:
        """Whether the server answers and can reach its database and Redis."""
        try:
            return self._http.get("/readyz", timeout=2.0).is_success
        except httpx.HTTPError:
            return False

    def _send(self, method: str, path: str, **request: Any) -> httpx.Response:
        try:
            response = self._http.request(method, path, **request)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            reason = str(error) or type(error).__name__
            raise ServerUnreachable(
                f"no natlab server answers at {self.url} ({reason}); start one with `natlab up` or set NATLAB_URL"
            ) from error
        if not response.is_success:
            raise ApiError(_problem(response))
        return response

    def _ask(self, answer: type[T], method: str, path: str, **request: Any) -> T:
        response = self._send(method, path, **request)
        try:
            return TypeAdapter(answer).validate_json(response.content)
        except ValidationError as error:
            raise ServerUnreachable(
                f"what answers at {self.url} is no natlab server of version {__version__} "
                f"({method} {path}: {error.error_count()} fields do not fit); check NATLAB_URL"
            ) from error


def default_url() -> str:
    """`NATLAB_URL`, else this machine at `NATLAB_PORT`."""
    return os.environ.get("NATLAB_URL") or f"http://127.0.0.1:{os.environ.get('NATLAB_PORT') or DEFAULT_PORT}"


def default_token(url: str | None = None, home: Path | None = None) -> str | None:
    """`NATLAB_TOKEN`, else what stands in the file `NATLAB_TOKEN_FILE`, else this machine's own server's token.

    That one is for a server on loopback only: sent elsewhere it would be given away.

    Args:
        url: the server's address; the default one unless given.
        home: the server's data folder; `NATLAB_HOME` unless given.

    Raises:
        ClientError: when the file cannot be read, is empty or is no text, or holds what a header cannot carry.
    """
    token, path = os.environ.get("NATLAB_TOKEN"), os.environ.get("NATLAB_TOKEN_FILE")
    if not token and path:
        token = _token_in("NATLAB_TOKEN_FILE", path)
        if not token:
            raise ClientError(f"NATLAB_TOKEN_FILE is {path!r}, which is empty; write the token into it")
    if not token and _is_loopback(url or default_url()):
        kept = (home or Path(os.environ.get("NATLAB_HOME") or ".natlab").expanduser()) / "token"
        token = _token_in("the server's own token file", str(kept)) if kept.exists() else None
    if token and not (token.isascii() and token.isprintable() and " " not in token):
        raise ClientError("NATLAB_TOKEN holds characters that a header cannot carry; use letters and digits")
    return token or None


def _token_in(name: str, path: str) -> str:
    try:
        return Path(path).expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError, RuntimeError) as error:  # RuntimeError: ~ of nobody
        raise ClientError(
            f"{name} is {path!r}, which cannot be read ({error}); correct the path or its permissions"
        ) from None


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _problem(response: httpx.Response) -> Problem:
    """The problem document of an answer, or one made from its status when a proxy answered instead."""
    try:
        return Problem.model_validate_json(response.content)
    except ValidationError:
        asked = f"{response.request.method} {response.request.url}"
        detail = f"{asked} was answered with {response.status_code} {response.reason_phrase}"
        return Problem(title=response.reason_phrase, status=response.status_code, detail=detail, code="http_error")


def _segment(name: str) -> str:
    """An id as one segment of a path, whatever someone typed."""
    return quote(name, safe="") or "-"


def _given(**params: Any) -> dict[str, Any]:
    return {key: value for key, value in params.items() if value is not None}

"""The Python client against a loopback server that answers as the real one does."""

from __future__ import annotations

import itertools
import socket
from pathlib import Path
from urllib.parse import parse_qsl

import pytest

from client.api import ApiError, ClientError, NatLab, ServerUnreachable, WaitedTooLong, default_token
from nat_core.cost import ModelShape
from nat_core.records import ExperimentPlan, ExperimentRecord, RunState
from nat_core.spec import demo_experiment
from tests.client.builders import a_comparison, a_run, an_experiment
from tests.client.http import Asked, Hangup, answering, problem
from tests.e2e.support import REPOSITORY
from web.planning import assumptions, plan_experiment


def test_launch_sends_the_whole_spec_and_returns_the_record() -> None:
    with answering({"POST /api/v1/experiments": (201, an_experiment())}) as table, NatLab(table.url) as lab:
        record = lab.launch(demo_experiment(steps=3))
    assert record == an_experiment()
    assert table.asked[0].body["base"]["steps"] == 3
    assert [budget["selector"] for budget in table.asked[0].body["budgets"]] == ["full", "rpc", "urs", "truncate"]


def test_launch_passes_a_plain_dict_on_for_the_server_to_judge() -> None:
    refusal = problem(422, "bad_spec", "budgets.0.fraction is 2, but it is at most 1; lower it")
    refusal["errors"] = [{"pointer": "/budgets/0/fraction", "detail": "too large"}]
    with (
        answering({"POST /api/v1/experiments": (422, refusal)}) as table,
        NatLab(table.url) as lab,
        pytest.raises(ApiError) as caught,
    ):
        lab.launch({"name": "x", "budgets": [{"selector": "rpc", "fraction": 2}]})
    assert caught.value.message == refusal["detail"]
    assert caught.value.code == "bad_spec"
    assert caught.value.problem.errors[0]["pointer"] == "/budgets/0/fraction"
    assert table.asked[0].body["budgets"][0]["fraction"] == 2


def test_experiments_follows_cursors_until_the_limit() -> None:
    def page(asked: Asked) -> tuple[int, object]:
        number = 2 if "cursor=second" in asked.path else 1
        items = [an_experiment(id=f"exp-{number}{index}") for index in range(2)]
        following = "second" if number == 1 else None
        return 200, {"items": [item.model_dump(mode="json") for item in items], "next_cursor": following}

    with answering({"GET /api/v1/experiments": page}) as table, NatLab(table.url) as lab:
        assert [item.id for item in lab.experiments()] == ["exp-10", "exp-11", "exp-20", "exp-21"]
        assert [item.id for item in lab.experiments(limit=3)] == ["exp-10", "exp-11", "exp-20"]
        assert [item.id for item in lab.experiments(limit=1)] == ["exp-10"]


def test_wait_reports_every_poll_and_returns_once_all_runs_have_ended() -> None:
    states = itertools.chain(
        [(RunState.RUNNING, RunState.QUEUED), (RunState.SUCCEEDED, RunState.STOPPING)],
        itertools.repeat((RunState.SUCCEEDED, RunState.STOPPED)),
    )

    def experiment(asked: Asked) -> tuple[int, ExperimentRecord]:
        first, second = next(states)
        return 200, an_experiment(a_run(0, state=first), a_run(1, state=second))

    seen: list[list[str]] = []
    with answering({"GET /api/v1/experiments/exp-1": experiment}) as table, NatLab(table.url) as lab:
        ended = lab.wait("exp-1", lambda record: seen.append([run.state for run in record.runs]), every_s=0.01)
    assert seen == [["running", "queued"], ["succeeded", "stopping"], ["succeeded", "stopped"]]
    assert [run.state for run in ended.runs] == ["succeeded", "stopped"]


def test_compare_and_stop_ask_for_the_thing_named() -> None:
    routes = {
        "GET /api/v1/experiments/exp-1/comparison": (200, a_comparison()),
        "POST /api/v1/runs/run-1/stop": (202, a_run(0, state=RunState.STOPPING)),
    }
    with answering(routes) as table, NatLab(table.url) as lab:
        assert lab.compare("exp-1") == a_comparison()
        assert lab.stop("run-1").state == RunState.STOPPING


def test_each_action_is_a_sub_path() -> None:
    becomes = {"stop": "stopping", "pause": "pausing", "resume": "queued", "kill": "stopping"}
    routes = {f"POST /api/v1/runs/run-1/{action}": (202, a_run(0, state=state)) for action, state in becomes.items()}
    with answering(routes) as table, NatLab(table.url) as lab:
        for action, state in becomes.items():
            assert getattr(lab, action)("run-1").state == state


def test_metric_series_sends_only_what_was_given() -> None:
    series = [{"run_id": "run-1", "key": "reward", "x": [1, 2], "y": [0.5, None]}]
    with answering({"GET /api/v1/metrics": (200, series)}) as table, NatLab(table.url) as lab:
        found = lab.metric_series(["run-1", "run-2"], ["reward", "eval/accuracy"], since=4)
    assert found[0].y == [0.5, None]
    assert table.asked[0].path == "/api/v1/metrics?run_ids=run-1%2Crun-2&keys=reward%2Ceval%2Faccuracy&x=step&since=4"


def test_an_id_stays_one_segment_whatever_was_typed() -> None:
    with answering({}) as table, NatLab(table.url) as lab, pytest.raises(ApiError):
        lab.run("../workers?x=1#y")
    assert table.asked[0].path == "/api/v1/runs/..%2Fworkers%3Fx%3D1%23y"


def test_token_comes_from_the_environment_or_its_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("from-file\n")
    monkeypatch.setenv("NATLAB_TOKEN_FILE", str(tmp_path / "token"))
    with answering({"GET /api/v1/workers": (200, [])}) as table:
        with NatLab(table.url) as lab:
            lab.workers()
        monkeypatch.setenv("NATLAB_TOKEN", "from-variable")
        with NatLab(table.url) as lab:
            lab.workers()
    assert [asked.headers["Authorization"] for asked in table.asked] == ["Bearer from-file", "Bearer from-variable"]


def test_a_token_file_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NATLAB_TOKEN_FILE", str(tmp_path / "token"))
    with pytest.raises(ClientError, match=r"NATLAB_TOKEN_FILE is .*token', which cannot be read"):
        NatLab()


def test_a_token_file_is_found_in_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("at-home\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NATLAB_TOKEN_FILE", "~/token")
    assert default_token() == "at-home"


def test_a_server_s_own_token_is_found_in_its_data_folder_and_sent_nowhere_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NATLAB_HOME", str(tmp_path))
    assert default_token() is None
    (tmp_path / "token").write_text("made-at-first-start\n")
    for here in ("http://127.0.0.1:8300", "http://localhost:1", "http://[::1]:8300/runs"):
        assert default_token(here) == "made-at-first-start"
    for elsewhere in ("http://gpu-box:8300", "http://127.0.0.1.evil.example", "http://10.0.0.1:8300", "nonsense"):
        assert default_token(elsewhere) is None


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x7fELF\xff\xfe\x00", "token', which cannot be read"),
        (b"\n", "token', which is empty"),
        (b"two\nlines", "characters that a header cannot carry"),
    ],
)
def test_a_token_file_that_holds_no_token_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes, words: str
) -> None:
    (tmp_path / "token").write_bytes(content)
    monkeypatch.setenv("NATLAB_TOKEN_FILE", str(tmp_path / "token"))
    with pytest.raises(ClientError) as caught:
        NatLab()
    assert words in caught.value.message and "\n" not in caught.value.message


def test_a_server_that_is_away_is_named_with_the_remedy() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: refused, and nobody else can have it
        port = taken.getsockname()[1]
        with (
            NatLab(f"http://127.0.0.1:{port}", retries=0) as lab,
            pytest.raises(ServerUnreachable, match=f"{port} .*`natlab up`"),
        ):
            lab.experiments()


def test_an_answer_that_is_no_record_says_that_this_is_no_natlab_server() -> None:
    with (
        answering({"GET /api/v1/runs/run-1": (200, {"hello": "world"})}) as table,
        NatLab(table.url) as lab,
        pytest.raises(ServerUnreachable, match="is no natlab server"),
    ):
        lab.run("run-1")


def test_an_error_that_is_no_problem_document_keeps_its_status() -> None:
    with (
        answering({"GET /api/v1/runs/run-1": (502, b"<html>bad gateway</html>")}) as table,
        NatLab(table.url) as lab,
        pytest.raises(ApiError, match="502") as caught,
    ):
        lab.run("run-1")
    assert caught.value.problem.status == 502


def test_a_record_does_wherever_an_id_is_asked_for() -> None:
    ended = an_experiment(a_run(0, state=RunState.SUCCEEDED))
    routes = {
        "GET /api/v1/experiments/exp-0000000000": (200, ended),
        "POST /api/v1/runs/run-0000000000/kill": (202, a_run(0)),
        "GET /api/v1/runs": (200, {"items": []}),
    }
    with answering(routes) as table, NatLab(table.url) as lab:
        assert lab.wait(ended) == ended
        lab.kill(ended.runs[0])
        assert lab.runs(ended, state=RunState.FAILED) == []
    assert table.asked[-1].path == "/api/v1/runs?experiment_id=exp-0000000000&state=failed&limit=100"


def test_wait_gives_up_when_it_is_told_to() -> None:
    with (
        answering({"GET /api/v1/experiments/exp-1": (200, an_experiment(id="exp-1"))}) as table,
        NatLab(table.url) as lab,
        pytest.raises(WaitedTooLong, match="exp-1 has not ended within 0 s"),
    ):
        lab.wait("exp-1", timeout_s=0, every_s=0.01)


def test_plan_sends_the_spec_and_stores_nothing() -> None:
    spec = demo_experiment(steps=3)
    shape = ModelShape.read(REPOSITORY / "nat_core" / "demo" / "model")
    told = plan_experiment(spec, shape, assumptions(spec.base))
    with answering({"POST /api/v1/plan": (200, told)}) as table, NatLab(table.url) as lab:
        found = lab.plan(spec)
    assert isinstance(found, ExperimentPlan) and found == told
    assert found.num_runs == 4 and found.budgets[1].flops_share < 0.7
    assert table.asked[0].body["base"]["steps"] == 3


def test_edits_send_only_what_is_given() -> None:
    routes = {
        "PATCH /api/v1/experiments/exp-1": (200, an_experiment()),
        "PATCH /api/v1/runs/run-1": (200, a_run()),
        "DELETE /api/v1/runs/run-1": (204, b""),
    }
    with answering(routes) as table, NatLab(table.url) as lab:
        lab.edit_experiment("exp-1", notes="kept")
        lab.edit_run("run-1", priority=0, tags=[])
        assert lab.delete_run("run-1") is None
    assert [asked.body for asked in table.asked] == [{"notes": "kept"}, {"tags": [], "priority": 0}, None]


def test_events_are_paged_in_order_and_followed_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.reported._EVENTS_PAGE", 2)
    stored = [{"type": "log", "seq": seq, "time": 1.0, "step": 1, "message": f"line {seq}"} for seq in range(1, 6)]
    asked_for: list[tuple[str, str]] = []

    def events(asked: Asked) -> tuple[int, object]:
        query = dict(parse_qsl(asked.path.partition("?")[2]))
        asked_for.append((query["type"], query["after_seq"]))
        known = 3 if len(asked_for) < 4 else 5  # two more are reported while we follow
        return 200, [event for event in stored[:known] if event["seq"] > int(query["after_seq"])][:2]

    ends = iter([RunState.RUNNING])
    routes: dict[str, object] = {
        "GET /api/v1/runs/run-1/events": events,
        "GET /api/v1/runs/run-1": lambda asked: (200, a_run(1, state=next(ends, RunState.SUCCEEDED))),
    }
    with answering(routes) as table, NatLab(table.url) as lab:  # type: ignore[arg-type]
        told = [event.seq for event in lab.events("run-1", type="log", follow=True, every_s=0.01)]
    assert told == [1, 2, 3, 4, 5]
    assert [after for _, after in asked_for[:5]] == ["0", "2", "3", "3", "5"]
    assert {kind for kind, _ in asked_for} == {"log"}


def test_following_misses_nothing_that_comes_with_the_end() -> None:
    stored: list[dict[str, object]] = []

    def ending(_asked: Asked) -> tuple[int, object]:
        """Between the look for events and this one the last of them is stored, and the run ends."""
        if not stored:
            stored.append({"type": "log", "seq": 1, "time": 1.0, "step": 1, "message": "the last words"})
        return 200, a_run(1, state=RunState.SUCCEEDED)

    routes: dict[str, object] = {
        "GET /api/v1/runs/run-1/events": lambda asked: (200, stored if "after_seq=0" in asked.path else []),
        "GET /api/v1/runs/run-1": ending,
    }
    with answering(routes) as table, NatLab(table.url) as lab:  # type: ignore[arg-type]
        assert [event.seq for event in lab.events("run-1", follow=True, every_s=0.01)] == [1]


def test_following_outlives_a_server_that_is_away_at_any_of_its_looks() -> None:
    away = {"events": 3, "run-1": 3}

    def sometimes(asked: Asked) -> tuple[int, object]:
        what = asked.path.partition("?")[0].rpartition("/")[2]
        away[what] -= 1
        if away[what] >= 0:
            raise Hangup
        return 200, [] if what == "events" else a_run(1, state=RunState.SUCCEEDED)

    routes: dict[str, object] = {"GET /api/v1/runs/run-1/events": sometimes, "GET /api/v1/runs/run-1": sometimes}
    with answering(routes) as table, NatLab(table.url, retries=0) as lab:  # type: ignore[arg-type]
        assert list(lab.events("run-1", follow=True, every_s=0.01)) == []


def test_events_of_several_types_are_asked_for_by_name() -> None:
    with answering({"GET /api/v1/runs/run-1/events": (200, [])}) as table, NatLab(table.url) as lab:
        assert list(lab.events("run-1", type=("log", "state"))) == []
    assert table.asked[0].path == "/api/v1/runs/run-1/events?type=log&type=state&after_seq=0&limit=1000"

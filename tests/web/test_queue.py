"""Workers and the queue: who does what, what waits and why; what can be done to a run in its state."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from fastapi.testclient import TestClient

from nat_core.records import RunState, actions_of
from server.life import RunLife
from server.store import Store
from server.tables import WorkerRow, utc_now
from tests.web.building import HARDWARE, finished_experiment, launch, small_spec, train
from tests.web.test_pages import rows_of, text_of
from web.run_actions import offered


def test_workers_and_queue_are_told_in_order_with_reasons(client: TestClient, store: Store) -> None:
    empty = client.get("/workers").text
    assert "No worker has registered" in empty and "Nothing waits" in empty
    experiment = launch(store, small_spec("First", steps=60))
    launch(store, small_spec("Second"))
    assert rows_of(client.get("/workers").text, "queue")[0].endswith("No worker is there. just now")
    train(store, experiment.runs[1], upto=3)
    html = client.get("/workers").text
    (worker,) = rows_of(html, "workers")
    assert worker.startswith("cpu-box-1 at work rpc · linear · ½, seed 0 running, step 3 of 60")
    assert "EPYC 9474F" in worker
    queue = rows_of(html, "queue")
    assert [row.split("Every")[0].strip() for row in queue] == [
        "1 full, seed 0 First",
        "2 truncate · ½, seed 0 First",
        "3 full, seed 0 Second",
        "4 rpc · linear · ½, seed 0 Second",
        "5 truncate · ½, seed 0 Second",
    ]
    assert "it is the next one" in queue[0] and "1 run is ahead of it" in queue[1] and "2 runs are ahead" in queue[2]


@pytest.mark.parametrize("minutes", [-5, 60])
def test_an_idle_worker_takes_the_next_and_a_silent_one_does_not_count(
    client: TestClient, store: Store, minutes: int
) -> None:
    launch(store, small_spec())
    store.register_worker("box", "box", HARDWARE)
    html = client.get("/workers").text
    assert "idle" in rows_of(html, "workers")[0] and "An idle worker is about" in rows_of(html, "queue")[0]
    with store.db.write() as session:
        row = session.get(WorkerRow, "box")
        assert row is not None
        row.seen_at = utc_now() + timedelta(minutes=minutes)  # or before the clock was set back
        session.add(row)
    html = client.get("/workers").text
    assert "silent" in rows_of(html, "workers")[0] and "No worker is there" in rows_of(html, "queue")[0]


def test_a_run_that_came_back_says_why_it_waits_again(client: TestClient, store: Store) -> None:
    run = launch(store, small_spec()).runs[0]
    train(store, run, upto=2)
    RunLife(store).finish(run.id, 1, "lost", "trainer_lost", "the trainer ended on signal 9")
    first = rows_of(client.get("/workers").text, "queue")[0]
    assert "Back in the queue: the trainer ended on signal 9." in first


def test_a_run_waits_for_a_worker_that_has_what_it_needs(client: TestClient, store: Store) -> None:
    spec = small_spec()
    resources = spec.base.resources.model_copy(update={"worker_label": "big"})
    labelled = spec.model_copy(update={"base": spec.base.model_copy(update={"resources": resources})})
    launch(store, labelled)
    store.register_worker("small", "small", HARDWARE)
    assert "No worker that is there has what it needs: label big." in rows_of(client.get("/workers").text, "queue")[0]
    gpus = [{"name": "NVIDIA H200"}, {"name": "NVIDIA H200"}]
    store.register_worker("box", "box", {**HARDWARE, "gpus": gpus}, labels=["big"])
    html = client.get("/workers").text
    assert "An idle worker is about" in rows_of(html, "queue")[0]
    row = next(row for row in rows_of(html, "workers") if row.startswith("box"))
    assert "big" in row and "2 × NVIDIA H200" in row


def test_a_biased_budget_is_hollow_in_the_queue(client: TestClient, store: Store) -> None:
    launch(store, small_spec())
    hollow = re.findall(r'class="dot c(\d)( hollow)?"', client.get("/workers").text)
    assert hollow == [("0", ""), ("1", ""), ("2", " hollow")]


def test_priority_comes_before_age(client: TestClient, store: Store) -> None:
    launch(store, small_spec("Old"))
    urgent = store.create_experiment(small_spec("Urgent"), announce=lambda run_id: None, priority=5)
    rows = rows_of(client.get("/workers").text, "queue")
    assert ["Urgent" in row for row in rows] == [True] * 3 + [False] * 3 and "priority 5" in rows[0]
    assert store.get_run(urgent.runs[0].id).queue_position == 1


@pytest.mark.parametrize("state", RunState)
def test_only_legal_actions_are_offered(state: RunState) -> None:
    assert {button.name for button in offered(state)} <= set(actions_of(state))


def test_each_state_has_its_buttons() -> None:
    names = {state: [button.name for button in offered(state)] for state in RunState}
    assert names[RunState.RUNNING] == ["pause", "stop", "kill"] and names[RunState.PAUSED] == ["resume", "stop"]
    assert names[RunState.QUEUED] == ["pause", "stop"] and names[RunState.STOPPING] == ["kill"]
    assert names[RunState.SUCCEEDED] == []


def test_the_page_of_a_run_offers_what_its_state_allows(client: TestClient, store: Store) -> None:
    experiment = finished_experiment(store, small_spec())
    done = client.get(f"/runs/{experiment.runs[0].id}").text
    assert 'data-testid="stop"' not in done and 'data-method="DELETE"' in done
    waiting = launch(store, small_spec()).runs[0].id
    html = client.get(f"/runs/{waiting}").text
    assert f'data-action="/api/v1/runs/{waiting}/stop"' in html and 'data-method="DELETE"' not in html


def test_tags_and_notes_stand_in_their_form_and_in_the_head(client: TestClient, store: Store) -> None:
    experiment = finished_experiment(store, small_spec())
    run = experiment.runs[0].id
    for kind, path in (("experiments", f"/experiments/{experiment.id}"), ("runs", f"/runs/{run}")):
        api = f"/api/v1{path}"
        assert client.patch(api, json={"tags": ["fine", "<b>"], "notes": "it </textarea> worked"}).is_success, kind
        html = client.get(path).text
        assert 'value="fine, &lt;b&gt;"' in html and "it &lt;/textarea&gt; worked" in html
        assert f'data-edit="{api}"' in html
        assert "fine <b>" in text_of(html.split('class="facts"', 1)[1].split("</p>", 1)[0])

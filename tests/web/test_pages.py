"""The pages through the real application and store: what they show, escape, refuse, and leave out."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from nat_core.comparison import Comparison
from nat_core.events import METRICS, EvaluationEvent
from nat_core.spec import parse_experiment_spec
from server.ingest import Batch, store_batches
from server.life import RunLife
from server.main import create_app
from server.settings import Settings
from server.store import Store
from tests.web.building import finished_experiment, launch, small_spec, train
from web import views
from web.numbers import written

HOSTILE = """<script>alert(1)</script>"'&{{7*7}}"""


def text_of(html: str) -> str:
    """What a reader sees, roughly."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())


def rows_of(html: str, table: str) -> list[str]:
    body = html.split(f'data-testid="{table}"', 1)[1].split("<tbody>", 1)[1].split("</tbody>", 1)[0]
    return [text_of(f"<tr{row}") for row in body.split("<tr")[1:]]


def test_home_leads_to_the_experiments(client: TestClient) -> None:
    answer = client.get("/", follow_redirects=False)
    assert answer.is_redirect and answer.headers["location"] == "/experiments"


def test_the_empty_listing_says_what_to_do_and_its_command_launches_the_demo(client: TestClient) -> None:
    html = client.get("/experiments").text
    assert "No experiment yet" in html
    command = unescape(html.split("<pre", 1)[1].split(">", 1)[1].split("</pre>", 1)[0])
    assert command.startswith("curl -X POST http://127.0.0.1:8300/api/v1/experiments")
    spec = parse_experiment_spec(json.loads(command.split("-d '", 1)[1].rstrip("'")))
    assert len(spec.budgets) == 4 and spec.base.optim.learning_rate == 1e-4
    assert "Nothing archived" in client.get("/experiments?archived=true").text


def test_experiments_are_found_by_words_in_their_name_or_tags(client: TestClient, store: Store) -> None:
    for name in ("Half of GSM8K", "100% of_it", "Quarter <of> it"):
        launch(store, small_spec(name).model_copy(update={"tags": ["Arithmetic"] if "Quarter" in name else []}))

    def found(words: str) -> list[str]:
        html = client.get("/experiments", params={"q": words}).text
        return rows_of(html, "experiments-table") if "experiments-table" in html else []

    assert [row.split(" queued")[0] for row in found("gsm")] == ["Half of GSM8K"]
    assert [row.split(" queued")[0] for row in found("arith")] == ["Quarter <of> it Arithmetic"]
    assert len(found("of")) == 3 and found("of gsm8k half") == []
    assert len(found("%")) == 1 and len(found("f_i")) == 1  # what SQL gives a meaning is taken as it stands
    nothing = client.get("/experiments?q=<b>nowhere").text
    assert 'data-testid="none-found"' in nothing and "&lt;b&gt;nowhere" in nothing and "<b>nowhere" not in nothing
    assert "No archived experiment has" in text_of(client.get("/experiments?archived=true&q=x").text)
    assert client.get("/experiments", params={"q": "x" * 900}).status_code == 200


@pytest.mark.parametrize("words", ["über", "ÖL", "GRÜN", "ün", 'say "hi"', "c:\\"])
def test_experiments_are_found_by_words_in_any_script(client: TestClient, store: Store, words: str) -> None:
    launch(store, small_spec("Über Öl").model_copy(update={"tags": ["Grün", 'say "Hi"', "C:\\"]}))
    launch(store, small_spec("another").model_copy(update={"tags": ["one", "two"]}))
    (row,) = rows_of(client.get("/experiments", params={"q": words}).text, "experiments-table")
    assert row.startswith("Über Öl")
    for punctuation in ('", "', "[", "\\u00"):  # of how tags are stored, which nobody wrote
        assert "experiments-table" not in client.get("/experiments", params={"q": punctuation}).text


def test_an_older_page_of_the_list_leads_back_to_the_newest(client: TestClient, store: Store) -> None:
    for number in range(21):
        launch(store, small_spec(f"Number {number}"))
    first = client.get("/experiments").text
    assert len(rows_of(first, "experiments-table")) == 20 and "Newest experiments" not in first
    older = re.search(r'href="(/experiments\?cursor=[^"]+)" data-carries>Older', first)
    assert older is not None
    second = client.get(unescape(older[1])).text
    assert [row.split(" demo queued")[0] for row in rows_of(second, "experiments-table")] == ["Number 0"]
    assert "Newest experiments" in second and "Older experiments" not in second


def test_the_list_tells_when_an_experiment_was_launched_and_does_not_let_it_grow_old(
    client: TestClient, store: Store
) -> None:
    launched = launch(store, small_spec()).created_at
    html = client.get("/experiments").text
    assert f'title="{launched:%Y-%m-%d %H:%M:%S} UTC">just now</time>' in html
    assert 'hx-trigger="natlab:refresh from:body, every 60s"' in html  # else "just now" would stand there all night


def test_commands_carry_the_name_of_the_token_s_variable_where_one_is_needed(
    client: TestClient, tmp_path: Path
) -> None:
    header = "Authorization: Bearer ${NATLAB_TOKEN:-$(cat .natlab/token)}"
    assert header not in client.get("/experiments").text + client.get("/experiments/new").text
    locked = create_app(Settings(home=tmp_path / "locked", token="s3cret-t0ken"))
    browser = TestClient(locked, base_url="http://127.0.0.1:8300")
    browser.get("/?token=s3cret-t0ken")
    listing, form = browser.get("/experiments").text, browser.get("/experiments/new").text
    locked.state.broker.close()
    locked.state.store.close()
    assert f'-H "{header}"' in unescape(listing) and f'data-token-header="{header}"' in form
    assert "s3cret" not in listing + form


def test_listing_answers_first(client: TestClient, store: Store) -> None:
    done = finished_experiment(store, small_spec("Done"))
    launch(store, small_spec("Waiting"))
    waiting_row, done_row = rows_of(client.get("/experiments").text, "experiments-table")
    assert "queued" in waiting_row and "0 of 3 runs" in waiting_row
    assert "succeeded" in done_row and store.comparison(done.id).headline in done_row


def test_an_answer_follows_what_comes_after_its_runs_have_ended(client: TestClient, store: Store) -> None:
    """A trainer's last words may come in after its worker said that it ended, and when somebody has looked already."""
    done = finished_experiment(store, small_spec(seeds=(0, 1, 2)))
    (cut,) = (run for run in done.runs if (run.cell, run.seed) == (1, 2))
    before = store.comparison(done.id)
    assert before.detail in text_of(client.get(f"/experiments/{done.id}").text)
    late = EvaluationEvent(
        seq=1000, time=99, step=cut.steps, seconds=1, accuracy=0.1, num_prompts=10, num_samples=1,
        correct=[1] + [0] * 9, mean_length=60,
    )  # fmt: skip
    store_batches(store, [Batch(cut.id, cut.attempt, [late])])
    after = Comparison.model_validate(client.get(f"/api/v1/experiments/{done.id}/comparison").json())
    assert after.cells[1].difference != before.cells[1].difference
    page = text_of(client.get(f"/experiments/{done.id}").text)
    for cell in after.cells[1:]:
        assert cell.verdict_text in page
    (row,) = rows_of(client.get("/experiments").text, "experiments-table")
    assert after.headline in row


def test_listing_turns_pages(client: TestClient, store: Store) -> None:
    for number in range(21):
        launch(store, small_spec(f"Number {number}"))
    first = client.get("/experiments").text
    assert len(rows_of(first, "experiments-table")) == 20 and "Number 0" not in first
    older = re.search(r'href="(/experiments\?cursor=[^"]+)"', first)
    assert older is not None
    (row,) = rows_of(client.get(unescape(older[1])).text, "experiments-table")
    assert "Number 0" in row


def test_experiment_page_answers_then_shows_every_budget_with_the_baseline_first(
    client: TestClient, store: Store
) -> None:
    spec = small_spec(seeds=(0, 1, 2)).model_copy(update={"baseline": 1})
    experiment = finished_experiment(store, spec)
    comparison = store.comparison(experiment.id)
    html = client.get(f"/experiments/{experiment.id}").text
    answer = html.split('data-testid="verdict"', 1)[1].split("</section>", 1)[0]
    assert comparison.headline in text_of(answer) and comparison.detail in text_of(answer)
    rows = rows_of(html, "cells-table")
    assert [next(label for label in ("rpc", "full", "truncate") if label in row) for row in rows] == [
        "rpc", "full", "truncate",
    ]  # fmt: skip
    assert "baseline" in rows[0] and "3 of 3" in rows[0] and "biased" in rows[2]
    accuracy = comparison.cells[1].accuracy
    assert accuracy is not None and f"{100 * accuracy.mean:.1f} ±" in rows[0]
    assert len(rows_of(client.get(f"/experiments/{experiment.id}?table=runs").text, "runs-table")) == 9
    assert 'data-testid="stop-experiment"' not in html


def test_the_address_sorts_filters_and_chooses_columns(client: TestClient, store: Store) -> None:
    experiment = finished_experiment(store, small_spec(seeds=(0, 1)))
    page = f"/experiments/{experiment.id}"
    rows = rows_of(client.get(f"{page}?sort=-peak_memory_gib&cols=peak_memory_gib,loss").text, "cells-table")
    assert [row.split()[0] for row in rows] == ["full", "rpc", "truncate"]
    assert "inconclusive" not in " ".join(rows) and all("±" in row for row in rows)
    filtered = client.get(f"{page}?table=runs&q=rpc&sort=-seed&sel={experiment.runs[1].id}").text
    rows = rows_of(filtered, "runs-table")
    assert len(rows) == 2 and all(row.startswith("rpc · linear · ½") for row in rows)
    assert 'aria-sort="descending"' in filtered and "4 rows left out by the filter" in text_of(filtered)
    assert f'data-select="{experiment.runs[1].id}" aria-label="Select rpc · linear · ½" checked' in filtered
    # What an address says wrongly counts as not said, and what it says is text.
    odd = client.get(page, params={"table": "x", "sort": "-none", "cols": "none", "q": HOSTILE})
    assert odd.status_code == 200 and len(rows_of(odd.text, "cells-table")) == 1  # the baseline is always there
    assert "<script>alert" not in odd.text


def test_configurations_are_shown_where_they_differ(client: TestClient, store: Store) -> None:
    spec = small_spec(seeds=(0, 1))
    longer = spec.model_copy(update={"name": "Longer", "base": spec.base.model_copy(update={"steps": 9})})
    first, second = finished_experiment(store, spec), launch(store, longer)
    html = client.get(f"/experiments/{first.id}").text
    fields = [row.split()[0] for row in rows_of(html, "diff-table")]
    assert fields == ["selector", "fraction", "law", "coupling", "floor"]
    runs = [run.id for run in (*first.runs, *second.runs) if run.cell == 1]
    html = client.get(f"/compare?runs={','.join(runs)},run-none").text
    assert rows_of(html, "diff-table") == ["steps 6 9"]
    assert len(rows_of(html, "runs-table")) == 4 and "Longer — rpc · linear · ½" in html
    figures = client.get(f"/compare/figures.json?runs={','.join(runs)}&names=reward,nonsense").json()["figures"]
    assert [trace["name"] for trace in figures["reward"]["figure"]["data"]][-1] == (
        "Half the tokens? — rpc · linear · ½, 2 seeds"
    )
    nothing = client.get("/compare?runs=run-none")
    assert nothing.status_code == 404 and "There is nothing to compare" in nothing.text


def test_experiments_are_compared_by_all_their_runs_and_no_more_than_can_be(
    client: TestClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (launch(store, small_spec(name, seeds=(0, 1))) for name in ("First", "Second"))
    gone, *left = [*first.runs, *second.runs]
    store.edit_run(gone.id, archived=True)
    html = client.get(f"/compare?experiments={first.id},{second.id},exp-none").text
    assert "Comparison of 6 configurations" in text_of(html) and len(rows_of(html, "runs-table")) == 11
    drawn = re.search(r'data-figures="/compare/figures.json\?runs=([^"]+)"', html)
    assert drawn is not None and set(drawn[1].split(",")) == {run.id for run in left}
    monkeypatch.setattr("server.reading.MAX_RUNS", 10)
    many = client.get(f"/compare?experiments={first.id},{second.id}")
    assert many.status_code == 422 and "have more than 10 runs, which is the most" in text_of(many.text)


def test_hostile_names_and_notes_stay_text(client: TestClient, store: Store) -> None:
    spec = small_spec(HOSTILE).model_copy(update={"tags": ["<i>"], "notes": "</pre><script>2</script>"})
    experiment = finished_experiment(store, spec)
    run = experiment.runs[0].id
    for path in (
        "/experiments",
        f"/experiments/{experiment.id}",
        f"/runs/{run}",
        f"/experiments/new?clone={experiment.id}",
    ):
        html = client.get(path).text
        assert "<script>alert" not in html and "<script>2" not in html and "<i>" not in html.split("<main", 1)[1]
        assert HOSTILE in text_of(html) or HOSTILE in unescape(html)
        assert "{{7*7}}" in unescape(html)


def test_pages_hold_nothing_that_the_content_policy_refuses(client: TestClient, store: Store) -> None:
    experiment = finished_experiment(store, small_spec())
    run = experiment.runs[1].id
    paths = [
        "/experiments",
        f"/experiments/{experiment.id}",
        f"/compare?runs={run}",
        "/experiments/new",
        "/workers",
        "/runs/none",
    ]
    for path in paths + [
        f"/runs/{run}{tab}"
        for tab in ("", "/metrics", "/tokens", "/system", "/logs", "/config", "/checkpoints", "/events")
    ]:
        answer = client.get(path)
        assert "script-src 'self'" in answer.headers["content-security-policy"]
        assert all(" src=" in tag for tag in re.findall(r"<script[^>]*>", answer.text)), path
        assert not re.search(r"\son\w+=|javascript:", answer.text), path
        sources = re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="([^"]+)"', answer.text)
        assert sources and all(source.startswith("/static/") for source in sources), path
        assert all(client.get(source).status_code == 200 for source in set(sources))


def test_an_experiment_without_a_finished_run_makes_no_answer_up(client: TestClient, store: Store) -> None:
    experiment = launch(store, small_spec())
    html = client.get(f"/experiments/{experiment.id}").text
    assert "No answer yet." in html and 'data-testid="stop-experiment"' in html
    assert all("—" in row and "pending" in row for row in rows_of(html, "cells-table")[1:])
    figures = client.get(f"/experiments/{experiment.id}/figures.json?names=tradeoff,savings,reward").json()["figures"]
    assert [figure["num_points"] for figure in figures.values()] == [0, 0, 0]
    assert all(figure["summary"] for figure in figures.values())


def test_experiment_figures_are_the_ones_asked_for(client: TestClient, store: Store) -> None:
    experiment = finished_experiment(store, small_spec(seeds=(0, 1)))
    path = f"/experiments/{experiment.id}/figures.json"
    answer = client.get(f"{path}?names=tradeoff,savings,reward,nonsense&theme=dark&cost=memory&cell=2")
    assert answer.headers["cache-control"] == "no-store"
    figures = answer.json()["figures"]
    assert set(figures) == {"tradeoff", "savings", "reward"}
    assert figures["savings"]["summary"].startswith("truncate · ½ against full")
    assert "peak memory" in figures["tradeoff"]["summary"]
    lines = [trace for trace in figures["reward"]["figure"]["data"] if "fill" not in trace]
    assert [line["name"] for line in lines] == ["full, 2 seeds", "rpc · linear · ½, 2 seeds", "truncate · ½, 2 seeds"]
    assert lines[0]["x"] == [1, 2, 3, 4, 5, 6] and lines[0]["line"]["color"] == "#8fa2ff"
    tokens = client.get(f"{path}?names=reward&x=tokens_selected").json()["figures"]["reward"]
    assert tokens["caption"].startswith("by tokens trained on")


def test_numbers_behind_a_chart_come_whole_as_csv_and_json(client: TestClient, store: Store) -> None:
    experiment = finished_experiment(store, small_spec(seeds=(0, 1), steps=800), evaluate_every=800)
    path = f"/experiments/{experiment.id}"
    answer = client.get(f"{path}/numbers.csv?name=reward&x=wall_s")
    assert answer.headers["content-type"].startswith("text/csv")
    assert f'filename="{experiment.id}-reward.csv"' in answer.headers["content-disposition"]
    head, *rows = answer.text.splitlines()
    assert (
        head == "run,experiment,budget,seed,state,metric,wall_s,value" and len(rows) == 6 * 800
    )  # the chart has 600 a run
    first = client.get(f"{path}/numbers.json?name=reward").json()[0]
    assert first["run"] == experiment.runs[0].id and first["step"] == 1
    small = finished_experiment(store, small_spec("Small"))
    runs = client.get(f"/experiments/{small.id}/numbers.json?name=runs").json()
    assert [run["budget"] for run in runs] == [run.label for run in small.runs]
    assert (runs[0]["state"], runs[0]["steps"]) == ("succeeded", 6) and runs[0]["reward"] == small.runs[0].latest[
        "reward"
    ]
    compared = client.get(f"/compare/numbers.csv?name=runs&runs={small.runs[0].id},{experiment.runs[0].id}")
    assert compared.text.startswith("run,experiment,budget,seed,state,") and len(compared.text.splitlines()) == 3
    budgets = client.get(f"/experiments/{small.id}/numbers.json?name=savings").json()
    saved = store.comparison(small.id).cells[1].savings["tokens_selected"]
    assert (budgets[1]["budget"], budgets[1]["saved_tokens_selected"]) == ("rpc · linear · ½", saved.mean)
    assert len(client.get(f"/runs/{experiment.runs[1].id}/numbers.json?name=reward").json()) == 800
    assert client.get(f"{path}/numbers.csv?name=nonsense").status_code == 422
    assert client.get(f"{path}/numbers.exe?name=reward").status_code == 422
    assert client.get(f"{path}/figures.json?names=reward&smooth=2").status_code == 422


def test_a_name_that_a_spreadsheet_would_run_is_text_in_csv() -> None:
    assert written([{"budget": "=1+1", "value": -1.5}], "csv") == "budget,value\n'=1+1,-1.5\n"


def test_an_archived_run_leaves_the_answer_the_listing_and_the_curves_at_once(client: TestClient, store: Store) -> None:
    experiment = finished_experiment(store, small_spec(seeds=(0, 1)))
    page, figures = f"/experiments/{experiment.id}", f"/experiments/{experiment.id}/figures.json?names=reward"

    def curves() -> list[str]:
        traces = client.get(figures).json()["figures"]["reward"]["figure"]["data"]
        return [trace["name"] for trace in traces if "fill" not in trace]

    assert "2 of 2" in rows_of(client.get(page).text, "cells-table")[1]
    assert curves()[1] == "rpc · linear · ½, 2 seeds"
    for run in experiment.runs:
        if run.cell == 1:
            store.edit_run(run.id, archived=True)
    row = rows_of(client.get(page).text, "cells-table")[1]
    assert "rpc" in row and "2 of 2" not in row and "—" in row
    assert curves() == ["full, 2 seeds", "truncate · ½, 2 seeds"]
    (listed,) = rows_of(client.get("/experiments").text, "experiments-table")
    assert store.comparison(experiment.id).headline in listed


def test_figures_refuse_an_unknown_theme(client: TestClient, store: Store) -> None:
    experiment = launch(store, small_spec())
    answer = client.get(f"/experiments/{experiment.id}/figures.json?theme=pink")
    assert answer.status_code == 422 and answer.headers["content-type"] == "application/problem+json"


def test_run_figures_have_every_metric_and_the_baseline_in_grey(client: TestClient, store: Store) -> None:
    experiment = finished_experiment(store, small_spec())
    names = ",".join(METRICS)
    figures = client.get(f"/runs/{experiment.runs[1].id}/figures.json?names={names}").json()["figures"]
    assert set(figures) == set(METRICS)
    grey, own = figures["timing_s/update"]["figure"]["data"]
    assert (grey["name"], grey["line"]["dash"], own["name"]) == ("full", "dot", "Update")
    assert figures["kl"]["num_points"] == 0
    # Tokens trained on stand before those generated; accuracy before the greedy one only without a baseline.
    drawn = [line["name"] for line in figures["eval/accuracy"]["figure"]["data"]]
    assert drawn == ["Accuracy, range", "full", "Accuracy"]
    tokens = figures["tokens/selected"]
    assert tokens["caption"] == "tokens, by step; dotted: tokens generated"
    generated, selected = tokens["figure"]["data"]
    own = client.get(f"/runs/{experiment.runs[0].id}/figures.json?names=eval/accuracy").json()["figures"]
    drawn = [line["name"] for line in own["eval/accuracy"]["figure"]["data"]]
    assert drawn == ["Accuracy, range", "Greedy accuracy", "Accuracy"]
    assert (generated["name"], selected["name"]) == ("Tokens generated", "Tokens trained on")
    assert all(g > s for g, s in zip(generated["y"], selected["y"], strict=True))


def test_run_page_shows_state_progress_and_what_it_saved(client: TestClient, store: Store) -> None:
    experiment = launch(store, small_spec(steps=60))
    full, rpc, _ = experiment.runs
    train(store, full)
    train(store, rpc, upto=12)
    html = client.get(f"/runs/{rpc.id}").text
    head = text_of(html.split('id="run-head"', 1)[1].split('id="tiles"', 1)[0])
    assert re.search(r"running step 12 of 60 · 0:2\d < \d+:\d\d left · cpu-box-1", head)
    assert 'aria-valuenow="20"' in html and 'data-testid="stop"' in html
    tiles = text_of(html.split('id="tiles"', 1)[1].split("<nav", 1)[0])
    assert re.search(r"Forward\+backward 0\.5\d\d s −4\d% against full", tiles)
    for key in views.RUN_CHARTS:
        assert f'data-testid="chart-{key}"' in html


def test_a_failed_run_says_why_and_cannot_be_stopped(client: TestClient, store: Store) -> None:
    run = launch(store, small_spec()).runs[0]
    train(store, run, upto=2)
    RunLife(store).finish(run.id, 1, "failed", "data", "<b>row 3</b> has no answer")
    html = client.get(f"/runs/{run.id}").text
    failure = html.split('data-testid="failure"', 1)[1].split("</section>", 1)[0]
    assert "&lt;b&gt;row 3&lt;/b&gt; has no answer." in failure and "<code>data</code>" in failure
    assert 'data-testid="stop"' not in html


def test_tokens_tab_shows_each_token_with_its_selection(client: TestClient, store: Store) -> None:
    experiment = finished_experiment(store, small_spec())
    html = client.get(f"/runs/{experiment.runs[1].id}/tokens?step=0&sample=2").text
    assert "Step 0 · sample 2 of 4" in html
    options = re.findall(r'<span class="t( cut)?" role="option"', html)
    assert len(options) == 36 and 0 < options.count(" cut") < 36
    assert html.count('class="cutline"') == 1
    assert "↵" in html and "Reference answer" in html
    urs_like = client.get(f"/runs/{experiment.runs[0].id}/tokens").text
    assert 'class="cutline"' not in urs_like and "Step 6 · sample 1 of 4" in urs_like


def test_tabs_of_a_run_that_waits_say_what_is_missing(client: TestClient, store: Store) -> None:
    run = launch(store, small_spec()).runs[0]
    assert "No sample yet" in client.get(f"/runs/{run.id}/tokens").text
    assert "No line yet" in client.get(f"/runs/{run.id}/logs").text
    assert "No worker is there. See the queue" in text_of(client.get(f"/runs/{run.id}").text)


def test_logs_and_config_tabs(client: TestClient, store: Store) -> None:
    experiment = finished_experiment(store, small_spec())
    run = experiment.runs[1].id
    assert "training on rpc, seed 0" in client.get(f"/runs/{run}/logs").text
    config = unescape(client.get(f"/runs/{run}/config").text)
    assert "selector: rpc" in config


@pytest.mark.parametrize(
    "path", ["/experiments/exp-none", "/runs/run-none", "/runs/run-none/tokens", "/experiments/new?clone=exp-none"]
)
def test_what_is_not_there_is_a_page_that_says_so(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert "text/html" in answer.headers["content-type"] and "Not found" in answer.text


def test_a_clone_is_filled_with_what_was_launched(client: TestClient, store: Store) -> None:
    experiment = launch(store, small_spec("Half, again", seeds=(4, 9), steps=33))
    html = client.get(f"/experiments/new?clone={experiment.id}").text
    assert 'value="4, 9"' in html and 'value="33"' in html and "Clone of an experiment" in html
    assert html.count('data-testid="budget-row"') == 4

"""Named sets of questions: charts and columns of their own, single runs' intervals, a verdict that ignores them."""

from __future__ import annotations

import re

from fastapi.testclient import TestClient

from nat_core.events import METRICS, interval_keys, metric_info
from nat_core.records import ExperimentRecord
from nat_core.spec import DemoArithmetic, EvaluationSpec, ExperimentSpec, QuestionSetSpec, RunSpec
from server.store import Store
from tests.web.building import finished_experiment, small_spec
from web.metrics import metrics_of, set_accuracies

EASY = QuestionSetSpec(data=DemoArithmetic(min_operations=2, max_operations=3))


def with_sets(*names: str, seeds: tuple[int, ...] = (0,)) -> ExperimentSpec:
    spec = small_spec(seeds=seeds)
    evaluation = EvaluationSpec(every=3, sets=dict.fromkeys(names, EASY))
    return spec.model_copy(update={"base": spec.base.model_copy(update={"evaluation": evaluation})})


def finished(store: Store, *names: str, seeds: tuple[int, ...] = (0,)) -> ExperimentRecord:
    return finished_experiment(store, with_sets(*names, seeds=seeds), evaluate_every=3)


def column(html: str, label: str) -> list[str]:
    """What stands in a column of the page's table, from the row under its head."""
    table = html[html.index('<table class="figures"') :]
    heads = [re.sub("<[^>]+>", "", head) for head in re.findall(r"<th scope=\"col\".*?</th>", table)]
    place = heads.index(label)
    rows = re.findall(r"<tr[^>]*data-row=.*?</tr>", table, re.S)
    cells = [re.findall(r"<td.*?</td>", row, re.S)[place - 1] for row in rows]
    return [" ".join(re.sub("<[^>]+>", " ", cell).split()) for cell in cells]


def test_metrics_of_sets_follow_the_run_s_own() -> None:
    specs = [RunSpec(), with_sets("easy").base, with_sets("hard", "easy").base]
    found = metrics_of(specs)
    assert METRICS.keys() <= found.keys() and len(found) == len(METRICS) + 2 * 5
    keys = list(found)
    place = keys.index("eval/majority_at_k")
    assert keys[place + 1 : place + 3] == ["eval/easy/accuracy", "eval/easy/accuracy_greedy"]
    assert found["eval/hard/pass_at_k"].label == "Pass@k, hard"
    assert set_accuracies(found) == ["eval/easy/accuracy", "eval/hard/accuracy"]
    assert metrics_of([RunSpec()]) == METRICS


def test_only_an_accuracy_has_an_interval_of_its_own() -> None:
    assert interval_keys("eval/accuracy") == ("eval/accuracy_low", "eval/accuracy_high")
    assert interval_keys("eval/easy/accuracy") == ("eval/easy/accuracy_low", "eval/easy/accuracy_high")
    assert interval_keys("eval/pass_at_k") is interval_keys("reward") is interval_keys("eval/Bad Name/accuracy") is None
    info = metric_info("eval/easy/accuracy_low")
    assert info is not None and info.label == "Accuracy, easy, low end of 95%"


def test_the_tables_have_a_column_for_each_set(client: TestClient, store: Store) -> None:
    experiment = finished(store, "easy")
    html = client.get(f"/experiments/{experiment.id}").text
    latest = [run.latest["eval/easy/accuracy"] for run in experiment.runs]
    shown = column(html, "Accuracy, easy")
    assert [cell.split("%")[0] for cell in shown] == [f"{100 * value:.1f}" for value in latest if value is not None]
    low = experiment.runs[0].latest["eval/easy/accuracy_low"]
    assert low is not None and f"[{100 * low:.1f}, " in shown[0]  # one seed: the questions' own uncertainty
    runs = client.get(f"/experiments/{experiment.id}?table=runs&cols=eval/easy/pass_at_k,eval/easy/majority_at_k").text
    assert len(column(runs, "Pass@k, easy")) == len(column(runs, "Majority@k, easy")) == 3


def test_over_seeds_the_interval_is_that_of_the_seeds(client: TestClient, store: Store) -> None:
    experiment = finished(store, "easy", seeds=(0, 1, 2))
    (first, *_) = column(client.get(f"/experiments/{experiment.id}").text, "Accuracy, easy")
    assert "±" in first and "[" not in first


def test_many_sets_wait_in_the_choice_of_columns(client: TestClient, store: Store) -> None:
    names = ("a", "b", "c", "d")
    html = client.get(f"/experiments/{finished(store, *names).id}").text
    assert 'value="eval/d/accuracy">' in html  # offered
    assert all(f"Accuracy, {name}</a>" not in html for name in names)


def test_a_set_s_accuracy_has_a_chart_beside_the_run_s_own(client: TestClient, store: Store) -> None:
    experiment = finished(store, "easy")
    names = re.findall(r'data-chart="([^"]+)"', client.get(f"/experiments/{experiment.id}").text)
    assert names[names.index("eval/accuracy") + 1] == "eval/easy/accuracy"
    assert {"eval/easy/pass_at_k", "eval/easy/majority_at_k"} <= set(names)
    answer = client.get(f"/experiments/{experiment.id}/figures.json?names=eval/easy/accuracy").json()
    chart = answer["figures"]["eval/easy/accuracy"]
    assert chart["num_points"] == 3 * 3 and chart["caption"].endswith("; band: 95% for these questions")
    run = experiment.runs[1]
    assert 'data-chart="eval/easy/accuracy"' in client.get(f"/runs/{run.id}").text
    compared = ",".join(run.id for run in experiment.runs)
    assert 'data-chart="eval/easy/accuracy"' in client.get(f"/compare?runs={compared}").text
    rows = client.get(f"/runs/{run.id}/numbers.csv?name=eval/easy/accuracy").text.splitlines()
    assert len(rows) == 1 + 3


def test_a_single_run_s_accuracy_has_its_questions_interval_as_a_band(client: TestClient, store: Store) -> None:
    run = finished(store, "easy").runs[1]
    found = client.get(f"/runs/{run.id}/figures.json?names=eval/accuracy,reward").json()["figures"]
    band = next(trace for trace in found["eval/accuracy"]["figure"]["data"] if trace.get("fill") == "toself")
    lowest = min(value for value in band["y"] if value is not None)
    assert lowest < run.latest["eval/accuracy"] < max(band["y"])
    assert "band: 95% for these questions" in found["eval/accuracy"]["caption"]
    assert not any(trace.get("fill") for trace in found["reward"]["figure"]["data"])


def test_the_verdict_is_about_the_run_s_own_questions(store: Store) -> None:
    plain = finished(store, seeds=(0, 1, 2))
    sets = finished(store, "easy", "hard", seeds=(0, 1, 2))
    accuracies = [[cell.accuracy for cell in store.comparison(experiment.id).cells] for experiment in (plain, sets)]
    for experiment, found in zip((plain, sets), accuracies, strict=True):
        for cell, estimate in enumerate(found):
            own = [run.latest["eval/accuracy"] for run in experiment.runs if run.cell == cell]
            assert estimate is not None and estimate.mean == sum(value for value in own if value is not None) / 3


def test_an_evaluation_s_line_names_its_sets(client: TestClient, store: Store) -> None:
    run = finished(store, "easy").runs[0]
    assert re.search(
        r"accuracy [\d.]+% of 128 prompts × 4 answers, greedy [\d.]+%, easy [\d.]+%",
        client.get(f"/runs/{run.id}/events?type=evaluation").text,
    )

"""Progress where there is no terminal, in lines that read well in a log; and tables where there is little room."""

from __future__ import annotations

import io

from rich.console import Console

from client.show import PLAIN_LINE_EVERY_S, ExperimentProgress, print_comparison, print_experiments, print_sets
from client.watching import table
from nat_core.records import RunState
from tests.client.builders import a_comparison, a_run, an_experiment, with_sets


def test_progress_in_a_log_is_a_line_per_change_of_state_and_one_now_and_then() -> None:
    now = [0.0]
    log = io.StringIO()
    with ExperimentProgress(Console(file=log), clock=lambda: now[0]) as progress:

        def at(seconds: float, **run: object) -> list[str]:
            now[0] = seconds
            log.truncate(0)
            log.seek(0)
            progress(an_experiment(a_run(0, **run)))
            return log.getvalue().splitlines()

        assert at(0) == ["full                 queued    0/10"]
        assert at(1) == []
        assert at(2, state="running") == ["full                 running   0/10"]
        assert at(3, state="running", step=1) == []
        assert at(2 + PLAIN_LINE_EVERY_S, state="running", step=5, latest={"reward": 0.5, "eval/accuracy": 0.625}) == [
            "full                 running   5/10  reward 0.500  accuracy 62.5%"
        ]
        assert at(30, state="failed", step=6, reason="nan_loss", message="the loss was NaN at step 6") == [
            "full                 failed    6/10    the loss was NaN at step 6"
        ]
        assert at(60, state="failed", step=6) == []


def test_progress_names_the_seed_where_there_are_several() -> None:
    log = io.StringIO()
    experiment = an_experiment(a_run(0, seed=3))
    several = experiment.model_copy(update={"spec": experiment.spec.model_copy(update={"seeds": [3, 4]})})
    with ExperimentProgress(Console(file=log)) as progress:
        progress(several)
    assert log.getvalue().startswith("full · seed 3 ")


def test_progress_on_a_terminal_shows_a_bar_per_run() -> None:
    screen = io.StringIO()
    with ExperimentProgress(Console(file=screen, force_terminal=True, width=120)) as progress:
        progress(an_experiment(a_run(0, state="running", step=3, latest={"eval/accuracy": 0.75}), a_run(1)))
    shown = screen.getvalue()
    assert "3/10" in shown
    assert "accuracy 75.0%" in shown
    assert "rpc · linear · ½" in shown


def test_named_sets_have_a_table_beside_the_verdict() -> None:
    runs = [
        a_run(0, state="succeeded", latest={"eval/accuracy": 0.9, "eval/aime-24/accuracy": 0.25}),
        a_run(1, state="succeeded", latest={"eval/aime-24/accuracy": 0.5, "eval/easy/accuracy": 1.0}),
        a_run(3, state="succeeded", seed=1, latest={"eval/aime-24/accuracy": 0.75}),
        a_run(5, state="failed", seed=2, latest={"eval/aime-24/accuracy": 0.0}),
    ]
    log = io.StringIO()
    print_sets(Console(file=log, width=120), with_sets(an_experiment(*runs), "aime-24", "easy"))
    lines = [" ".join(line.split()) for line in log.getvalue().splitlines() if line.strip()]
    assert lines[:3] == ["Accuracy on aime-24 easy", "full 25.0% –", "rpc · linear · ½ 62.5% 100.0%"]
    assert "The verdict is about the runs' own questions." in lines[3]
    log.truncate(0)
    print_sets(Console(file=log), an_experiment(*runs))
    assert log.getvalue() == ""


def test_tables_fit_a_terminal_of_80_columns_with_nothing_cut_off() -> None:
    latest: dict[str, float | None] = {"reward": 0.75, "eval/accuracy": 0.625}
    experiment = an_experiment(
        a_run(0, state=RunState.RUNNING, step=10, steps=100, eta_s=187.0, latest=latest),
        a_run(1, state=RunState.SUCCEEDED, label="rpc · linear · ½", step=100, steps=100, latest=latest),
    )
    curves = {(run.id, key): [0.25, 0.5, 0.75] * 10 for run in experiment.runs for key in ("reward", "eval/accuracy")}
    screen = io.StringIO()
    console = Console(file=screen, width=80)
    for draw in (
        lambda: console.print(table(experiment, curves)),
        lambda: print_experiments(console, [experiment]),
        lambda: print_comparison(console, a_comparison()),
    ):
        draw()
    shown = screen.getvalue()
    assert "…" not in shown and max(map(len, shown.splitlines())) <= 80
    words = "run-0000000000", "run-0000000001", "rpc · linear · ½", "succeeded", "10/100", "3:07", "0.750", "62.5%"
    for word in (*words, "exp-0000000000", "tokens", "baseline", "no claim", "31%"):
        assert word in shown, word

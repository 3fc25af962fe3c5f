"""Two workers on hosts of their own: runs spread over them, and one that is cut off loses its run to the other."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.stack import STEPS, events, of_training, weights
from tests.hosts.boxes import Boxes
from tests.server.support import wait_until

pytestmark = pytest.mark.slow


def test_a_run_of_a_host_that_is_cut_off_goes_on_from_its_checkpoint_on_the_other(
    boxes: Boxes, undisturbed: Path
) -> None:
    run_id = cut_off_while_it_trains(boxes, shares_runs=True)
    run = boxes.wait_for(run_id, "succeeded")
    assert (run["attempt"], run["restarts"], run["resumed_step"]) == (2, 1, 4)
    assert_trained_once_on_the_other(boxes, run_id, undisturbed)
    boxes.lan.hosts["box-1"].plug()
    assert_turned_away(boxes, run_id, "its end was refused")  # who took over has ended the trainer


def test_without_a_shared_folder_it_starts_over_and_the_one_cut_off_is_turned_away(
    boxes: Boxes, undisturbed: Path
) -> None:
    run_id = cut_off_while_it_trains(boxes, shares_runs=False)
    run = boxes.wait_for(run_id, "succeeded")
    assert (run["attempt"], run["restarts"], run["resumed_step"]) == (2, 1, 0)
    (cut_off,) = boxes.trainers()  # which cannot know that its run is another's now
    assert str(boxes.folder_on("box-1", run_id)) in cut_off
    boxes.lan.hosts["box-1"].plug()
    assert_turned_away(boxes, run_id, "the trainer is ended")
    assert_trained_once_on_the_other(boxes, run_id, undisturbed)

    boxes.parts["box-2"].kill()
    again = boxes.launch()  # the host that is back takes runs
    assert boxes.box_of(boxes.wait_for(again, "succeeded", 90)) == "box-1"


def cut_off_while_it_trains(boxes: Boxes, shares_runs: bool) -> str:
    """Launch a run for each of two hosts, and pull the first one's cable in the middle of its fifth step; its run."""
    boxes.start_box("box-1", shares_runs, FAULT="backward:5:hold")
    boxes.start_box("box-2", shares_runs)
    wait_until(lambda: boxes.boxes() == {"box-1", "box-2"}, 60)
    runs = [boxes.launch(), boxes.launch()]
    boxes.wait_for_fault()
    taken = {boxes.box_of(boxes.api.run(run_id)): run_id for run_id in runs}
    assert taken.keys() == {"box-1", "box-2"}
    boxes.wait_for(taken["box-2"], "succeeded")
    wait_until(lambda: boxes.api.run(taken["box-1"])["step"] == 4)  # all that it told has arrived
    boxes.lan.hosts["box-1"].pull()
    return taken["box-1"]


def assert_trained_once_on_the_other(boxes: Boxes, run_id: str, undisturbed: Path) -> None:
    """Every step once, with the values and the weights of a run that went straight through."""
    run = boxes.api.run(run_id)
    assert [attempt["worker_id"] for attempt in run["attempts"]] == ["box-1-1", "box-2-1"]
    assert run["attempts"][0]["reason"] == "worker_lost"
    expected = events(undisturbed, "metrics")
    assert boxes.series(run_id) == [(event["step"], event["values"]["reward"]) for event in expected]
    reported = boxes.api.call("GET", f"/runs/{run_id}/events", params={"type": "metrics"})
    assert [event["step"] for event in reported] == list(range(1, STEPS + 1))
    assert [of_training(event["values"]) for event in reported] == [of_training(event["values"]) for event in expected]
    assert weights(boxes.folder_on("box-2", run_id)) == weights(undisturbed)


def assert_turned_away(boxes: Boxes, run_id: str, said: str) -> None:
    """Its first word after it is back is refused, and its trainer is gone; the run stays as the other left it."""
    before = boxes.api.run(run_id)
    wait_until(lambda: f"{said}: attempt is 1" in boxes.log("box-1"), 30)
    wait_until(lambda: boxes.trainers() == [], 30)
    after = boxes.api.run(run_id)
    assert (after["state"], after["attempt"], after["finished_at"]) == ("succeeded", 2, before["finished_at"])

"""The Tokens tab: which sample is shown, and what is said of its tokens."""

from __future__ import annotations

from nat_core.events import SampleEvent
from web.tokens import choose_sample, cut_position, sample_view, visible


def sample(seq: int, step: int, keep: list[bool], probs: list[float]) -> SampleEvent:
    return SampleEvent(
        seq=seq, time=0, step=step, prompt="1+1", tokens=[f"t{i}" for i in range(len(keep))], keep=keep,
        inclusion_prob=probs, reward=1.0, advantage=0.5, answer="2",
    )  # fmt: skip


def test_weights_are_of_kept_tokens_alone() -> None:
    view = sample_view(sample(1, 0, [True, True, False], [0.8, 0.5, 0.25]), 0, 1, prefix_cut=True)
    assert [token.weight for token in view.tokens] == [1.25, 2.0, None]
    assert (view.num_kept, view.max_weight, view.cut_at) == (2, 2.0, 2)
    nothing = sample_view(sample(1, 0, [False], [0.0]), 0, 1, prefix_cut=False)
    assert (nothing.num_kept, nothing.max_weight) == (0, None)


def test_a_cut_is_shown_only_where_a_proper_prefix_is_kept() -> None:
    assert cut_position([True, True, False]) == 2
    assert [cut_position(keep) for keep in ([True, False, True], [True], [False, False], [])] == [None] * 4
    urs = sample_view(sample(1, 0, [True, False], [0.5, 0.5]), 0, 1, prefix_cut=False)
    assert urs.cut_at is None


def test_the_newest_step_is_shown_unless_another_is_asked_for() -> None:
    samples = [sample(n, step, [True], [1.0]) for n, step in enumerate([0, 0, 10, 10, 20], start=1)]
    newest = choose_sample(samples, None, None, False)
    assert newest is not None
    assert (newest.steps, newest.shown.step, newest.shown.index) == ([0, 10, 20], 20, 0)
    assert (newest.previous, newest.following) == ((10, 1), None)
    asked = choose_sample(samples, 10, 0, False)
    assert asked is not None
    assert (asked.previous, asked.following, asked.shown.num_in_step) == ((0, 1), (10, 1), 2)
    # What is not there gives its nearest neighbour, not an error.
    near = choose_sample(samples, 13, 99, False)
    assert near is not None and (near.shown.step, near.shown.index) == (10, 1)
    assert choose_sample([], None, None, False) is None


def test_line_breaks_and_tabs_are_seen() -> None:
    assert visible("a\n\tb") == "a↵\n⇥\tb"

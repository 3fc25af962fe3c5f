"""The Tokens tab: which sample is shown, and what is said of its tokens."""

from __future__ import annotations

from nat_core.events import SampleEvent
from web.tokens import Place, SampleFilter, choose_sample, cut_position, matches, sample_view, visible


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


PLACES = [Place(0, 0), Place(0, 1), Place(10, 0), Place(10, 1), Place(20, 0)]


def test_the_newest_step_is_shown_unless_another_is_asked_for() -> None:
    newest = choose_sample(PLACES, PLACES, None, None)
    assert newest is not None
    assert (newest.steps, newest.place) == ([0, 10, 20], Place(20, 0))
    assert (newest.previous, newest.following) == (Place(10, 1), None)
    asked = choose_sample(PLACES, PLACES, 10, 0)
    assert asked is not None
    assert (asked.previous, asked.following, asked.num_in_step) == (Place(0, 1), Place(10, 1), 2)
    # What is not there gives its nearest neighbour, not an error.
    near = choose_sample(PLACES, PLACES, 13, 99)
    assert near is not None and near.place == Place(10, 1)
    assert choose_sample([], [], None, None) is None


def test_a_sample_kept_in_part_shows_more_than_the_first_of_its_step() -> None:
    places = [Place(10, 0), Place(20, 0), Place(20, 1), Place(20, 2)]
    in_part = {Place(10, 0), Place(20, 1), Place(20, 2)}
    newest, asked = choose_sample(places, places, None, None, in_part), choose_sample(places, places, 20, 0, in_part)
    assert newest is not None and newest.place == Place(20, 1)
    assert asked is not None and asked.place == Place(20, 0)


def test_neighbours_are_those_of_the_search() -> None:
    hits = [Place(0, 1), Place(10, 1)]
    newest = choose_sample(PLACES, hits, None, None)
    assert newest is not None and (newest.place, newest.previous, newest.following) == (Place(10, 1), Place(0, 1), None)
    other = choose_sample(PLACES, hits, 10, 0)  # not a hit, and shown all the same: its address was shared
    assert other is not None and (other.place, other.previous, other.following) == (
        Place(10, 0),
        Place(0, 1),
        Place(10, 1),
    )
    nothing = choose_sample(PLACES, [], None, None)
    assert nothing is not None and nothing.place == Place(20, 0)


def test_words_are_looked_for_in_prompt_completion_and_answer() -> None:
    body = sample(1, 0, [True], [1.0]).model_dump()
    found = [words for words in ("1+1", "T0", "2", "1+1 t0", "t9", "") if matches(body, SampleFilter(words))]
    assert found == ["1+1", "T0", "2", "1+1 t0", ""]
    assert matches(body, SampleFilter(outcome="right")) and not matches(body, SampleFilter(outcome="wrong"))


def test_line_breaks_and_tabs_are_seen() -> None:
    assert visible("a\n\tb") == "a↵\n⇥\tb"

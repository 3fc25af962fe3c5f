"""Rows, orders, and messages that name file and line."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from nat_core.data import Example, open_source, read_file
from nat_core.demo.task import Chain, random_chain
from nat_core.errors import DataError
from nat_core.spec import DemoArithmetic, JsonlData
from tests.nat_core.builders import OUR_ROWS, WHOLE_SETS, needs_whole_gsm8k


def write(path: Path, *lines: object) -> str:
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines) + "\n")
    return str(path)


def row(number: int) -> dict[str, str]:
    return {"question": f"q{number}", "answer": f"a{number}"}


def test_each_epoch_shows_every_row_once_in_another_order(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", *[row(i) for i in range(10)])
    source = open_source(JsonlData(path=path, evaluation_path=path), 3)
    seen = [[example.prompt for example in source.training_batch(0, step, 5)] for step in range(4)]
    first, second = seen[0] + seen[1], seen[2] + seen[3]
    assert Counter(first) == Counter(second) == Counter(f"q{i}" for i in range(10))
    assert first != second
    assert first[:5] != [example.prompt for example in source.training_batch(1, 0, 5)]
    assert seen[2] == [example.prompt for example in source.training_batch(0, 2, 5)]  # asked again, out of order


def test_held_out_rows_are_not_trained_on(tmp_path: Path) -> None:
    source = open_source(JsonlData(path=write(tmp_path / "rows.jsonl", *[row(i) for i in range(10)])), 3)
    held_out = source.evaluation_set(3)
    assert [example.prompt for example in held_out] == ["q7", "q8", "q9"]
    assert not {e.prompt for e in held_out} & {e.prompt for s in range(9) for e in source.training_batch(0, s, 4)}


def test_template_and_fields_shape_the_prompt(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", {"problem": "2+2 {x}", "solution": 4})
    spec = JsonlData(path=path, prompt_field="problem", answer_field="solution", prompt_template="Q: {prompt}\nA:")
    assert read_file(spec, path, "path", None).rows == [Example("Q: 2+2 {x}\nA:", "4")]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([row(0), '{"question": "q'], r"line 2 is not valid JSON"),
        ([row(0), "", row(1), "[1]"], r"line 4 holds list, not an object"),
        (
            [row(0), {"question": "q"}],
            r"line 2 has no text under 'answer'.*set data\.answer_field to one of 'question'",
        ),
        ([{"question": "  ", "answer": "a"}], r"line 1 has no text under 'question'"),
        (["[" * 100_000], r"line 1 is not valid JSON \(nested too deeply\)"),
        (['{"question": ' + "9" * 5000 + "}"], r"line 1 is not valid JSON"),
        ([row(0), '{"question": "q\\ud800", "answer": "a"}'], r"line 2 holds characters under 'question'.*Unicode"),
        ([""], r"holds no rows"),
    ],
)
def test_a_broken_row_names_file_line_and_remedy(tmp_path: Path, lines: list[object], message: str) -> None:
    path = write(tmp_path / "rows.jsonl", *lines)
    with pytest.raises(DataError, match=message) as caught:
        open_source(JsonlData(path=path), 1)
    assert path in caught.value.message
    assert caught.value.faults[0].pointer == "/data/path"


def test_a_missing_file_and_one_that_is_no_text_are_data_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        open_source(JsonlData(path=str(tmp_path / "none.jsonl")), 1)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not UTF-8"):
        open_source(JsonlData(path=str(tmp_path / "binary")), 1)
    good = write(tmp_path / "rows.jsonl", row(0), row(1))
    with pytest.raises(DataError) as caught:
        open_source(JsonlData(path=good, evaluation_path=str(tmp_path / "none")), 1)
    assert caught.value.faults[0].pointer == "/data/evaluation_path"


def test_one_row_cannot_be_split(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="too few to hold any out"):
        open_source(JsonlData(path=write(tmp_path / "rows.jsonl", row(0))), 4)


def test_max_rows_reads_no_further(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", row(0), row(1), "broken")
    assert len(read_file(JsonlData(path=path), path, "path", 2).rows) == 2


def test_our_gsm8k_rows_read_like_the_real_ones() -> None:
    examples = read_file(JsonlData(path=str(OUR_ROWS)), str(OUR_ROWS), "path", None).rows
    assert len(examples) >= 8 and all("####" in example.answer for example in examples)


@needs_whole_gsm8k
def test_whole_gsm8k_reads() -> None:
    train, test = (str(WHOLE_SETS / "gsm8k" / name) for name in ("train.jsonl", "test.jsonl"))
    source = open_source(JsonlData(path=train, evaluation_path=test), 100)
    assert len(read_file(JsonlData(path=train), train, "path", None).rows) == 7473
    assert len(source.evaluation_set(2000)) == 1319


def test_demo_chain_is_worked_left_to_right_mod_ten() -> None:
    chain = Chain(7, (("+", 5), ("-", 8), ("*", 3)))
    assert chain.prompt == "7a+5b-8c*3:"
    assert chain.solution() == "a7+5=2 b2-8=4 c4*3=2 ####2"
    assert chain.answer == "2"


def test_a_slip_always_changes_the_answer() -> None:
    import random

    rng = random.Random(0)
    for _ in range(500):
        chain = random_chain(rng, 1, 12)
        slip = {rng.randrange(len(chain.operations)): rng.randint(1, 9)}
        assert not chain.solution(slip).endswith(f"####{chain.answer}")


def test_demo_prompts_depend_on_seed_and_step_alone() -> None:
    source = open_source(DemoArithmetic(), 4)
    assert source.training_batch(0, 3, 4) == source.training_batch(0, 3, 4)
    assert source.training_batch(0, 3, 4) != source.training_batch(0, 4, 4) != source.training_batch(1, 4, 4)
    assert source.evaluation_set(4) == open_source(DemoArithmetic(), 4).evaluation_set(8)[:4]

"""CSV, Parquet, Hugging Face data sets, presets and generators; broken rows; prompts measured before training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from datasets import Dataset, DatasetDict
from pyarrow import parquet

from nat_core.data import Example, PromptSource, RowSource, gym, open_questions, open_source
from nat_core.data.gym import gym_rows
from nat_core.errors import DataError, SpecError
from nat_core.preflight import check_run
from nat_core.spec import (
    CsvData,
    DataSpec,
    DemoArithmetic,
    Gsm8kData,
    HubData,
    JsonlData,
    Math500Data,
    ParquetData,
    ReasoningGymData,
    parse_run_spec,
)
from tests.nat_core.builders import OUR_ROWS, WHOLE_SETS, needs_whole_gsm8k, needs_whole_math

ROWS = [{"question": f"q{i}", "answer": f"a{i}", "other": i} for i in range(6)]


def prompts(source: PromptSource, count: int = 6) -> list[str]:
    return [example.prompt for example in source.training_batch(0, 0, count)]


def jsonl(path: Path, rows: list[Any]) -> str:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return str(path)


# --- CSV ------------------------------------------------------------------------------------------


def test_csv_rows_may_hold_delimiters_quotes_and_several_lines(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes('\ufeffquestion;answer\r\n"How many; ""now""?\r\nTell.";3\r\n\r\nq2;4\r\n'.encode())
    source = open_questions(CsvData(path=str(path), delimiter=";"), 10, "data")
    assert source.evaluation_set(10) == [Example('How many; "now"?\r\nTell.', "3"), Example("q2", "4")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("question,answer\nq,a\nq,a,b\n", r"line 3 has 3 columns, but the first line names 2"),
        ('question,answer\n"q\nq",a\n"q"x,a\n', r"line 4 is not valid CSV"),
        ("question,answer\nq,a\nq,\n", r"line 3 has no text under 'answer'"),
        ("question,answer\nq,a\nq\udcff,a\n", r"line 3 is not UTF-8 text"),
        ("problem,answer\nq,a\n", r"data\.prompt_field to one of 'problem', 'answer'"),
        ("question,answer,answer\nq,a,b\n", r"two columns named 'answer'"),
        ("question,answer\n", r"holds no rows"),
        ("", r"holds no rows"),
    ],
)
def test_a_broken_csv_row_names_file_line_and_reason(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(DataError, match=message) as caught:
        open_source(CsvData(path=str(path)), 1)
    assert str(path) in caught.value.message and caught.value.faults[0].pointer == "/data/path"


def test_a_csv_header_that_is_broken_is_never_skipped_nor_the_next_row_taken_for_it(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('"question"x,answer\nquestion,answer\nq,a\n')
    with pytest.raises(DataError, match="its first line is not valid CSV"):
        open_questions(CsvData(path=str(path), on_bad_row="skip"), 1, "data")


def test_a_csv_row_may_be_long_and_nameless_columns_many(tmp_path: Path) -> None:
    path, long = tmp_path / "rows.csv", "word " * 100_000
    path.write_text(f"question,answer,,\n{long},3,x,y\n")
    assert open_questions(CsvData(path=str(path)), 1, "data").evaluation_set(1) == [Example(long, "3")]


# --- Parquet --------------------------------------------------------------------------------------


def test_parquet_rows_are_read_with_columns_inside_columns(tmp_path: Path) -> None:
    rows = [{"chat": [{"content": f"q{i}"}], "truth": {"value": i}} for i in range(3000)]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    spec = ParquetData(
        path=str(tmp_path / "rows.parquet"), prompt_field="chat.0.content", answer_field="truth.value", max_rows=2500
    )
    held_out = open_source(spec, 2).evaluation_set(2)
    assert held_out == [Example("q2498", "2498"), Example("q2499", "2499")]


def test_a_broken_parquet_row_and_what_is_no_parquet_are_data_errors(tmp_path: Path) -> None:
    table = pa.table({"question": ["q1", "q2", None], "answer": ["a1", "a2", "a3"]})
    parquet.write_table(table, tmp_path / "rows.parquet")
    with pytest.raises(DataError, match=r"rows\.parquet, row 3 has no text under 'question'"):
        open_source(ParquetData(path=str(tmp_path / "rows.parquet")), 1)
    table = pa.table({"question": ["q1"], "answer": [float("nan")]})  # what pandas writes for nothing
    parquet.write_table(table, tmp_path / "gaps.parquet")
    with pytest.raises(DataError, match=r"gaps\.parquet, row 1 has no text under 'answer'"):
        open_source(ParquetData(path=str(tmp_path / "gaps.parquet")), 1)
    twice = pa.Table.from_arrays([pa.array(["q"]), pa.array(["a"]), pa.array(["b"])], ["question", "answer", "answer"])
    parquet.write_table(twice, tmp_path / "twice.parquet")
    with pytest.raises(DataError, match=r"twice\.parquet' cannot be read \(it has two columns named 'answer'"):
        open_source(ParquetData(path=str(tmp_path / "twice.parquet")), 1)
    (tmp_path / "text.parquet").write_text("not Parquet at all")
    with pytest.raises(DataError, match=r"text\.parquet' cannot be read \(.*[Pp]arquet"):
        open_source(ParquetData(path=str(tmp_path / "text.parquet")), 1)


# --- Hugging Face ---------------------------------------------------------------------------------


def test_a_saved_data_set_is_read_by_split(tmp_path: Path) -> None:
    splits = {"train": Dataset.from_list(ROWS[:4]), "test": Dataset.from_list(ROWS[4:])}
    DatasetDict(splits).save_to_disk(tmp_path / "saved")
    source = open_source(HubData(path=str(tmp_path / "saved"), evaluation_split="test"), 9)
    assert sorted(prompts(source, 4)) == ["q0", "q1", "q2", "q3"]
    assert source.evaluation_set(9) == [Example("q4", "a4"), Example("q5", "a5")]


def test_a_folder_of_data_files_is_a_data_set(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    jsonl(folder / "train.jsonl", ROWS[:3])
    jsonl(folder / "test.jsonl", ROWS[3:])
    source = open_source(HubData(path=str(folder), split="train", evaluation_split="test"), 9)
    assert [example.prompt for example in source.evaluation_set(9)] == ["q3", "q4", "q5"]


def test_a_data_set_s_broken_row_and_missing_split_are_named(tmp_path: Path) -> None:
    Dataset.from_list([*ROWS, {"question": "", "answer": "x", "other": 9}]).save_to_disk(tmp_path / "saved")
    with pytest.raises(DataError, match=r"saved, row 7 of train has no text under 'question'"):
        open_source(HubData(path=str(tmp_path / "saved")), 1)
    DatasetDict({"train": Dataset.from_list(ROWS)}).save_to_disk(tmp_path / "splits")
    with pytest.raises(DataError, match=r"splits' cannot be read \(.*validation"):
        open_source(HubData(path=str(tmp_path / "splits"), split="validation"), 1)


def test_a_hub_id_is_refused_only_where_it_is_none_before_the_run_starts() -> None:
    check_run(parse_run_spec({"data": {"type": "huggingface", "path": "openai/gsm8k"}}))  # only the trainer can tell
    check_run(parse_run_spec({"data": {"type": "gsm8k"}}))
    for path in ("csv", "./gone", "https://somewhere/x", "a/b/c", "~nobody-at-all/x", "a\0b"):
        with pytest.raises(DataError, match="neither a folder nor a hub id") as caught:
            check_run(parse_run_spec({"data": {"type": "huggingface", "path": path}}))
        assert caught.value.faults[0].pointer == "/data/path"


def test_a_hub_that_cannot_be_reached_is_a_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(DataError, match=r"'openai/gsm8k' cannot be read \(.*") as caught:
        open_source(Gsm8kData(), 4)  # tests have no network
    assert "\n" not in caught.value.message


# --- presets --------------------------------------------------------------------------------------


def test_gsm8k_from_a_folder_trains_on_one_file_and_asks_the_other(tmp_path: Path) -> None:
    jsonl(tmp_path / "train.jsonl", ROWS[:4])
    jsonl(tmp_path / "test.jsonl", ROWS[4:])
    spec = Gsm8kData(path=str(tmp_path), prompt_template="{prompt} Think.")
    source = open_source(spec, 9)
    assert sorted(prompts(source, 4)) == [f"q{i} Think." for i in range(4)]
    assert [example.answer for example in source.evaluation_set(9)] == ["a4", "a5"]
    with pytest.raises(DataError, match=r"none/train\.jsonl' cannot be read"):
        open_source(Gsm8kData(path=str(tmp_path / "none")), 9)


def test_math500_is_asked_whole_and_split_when_trained_on(tmp_path: Path) -> None:
    jsonl(tmp_path / "test.jsonl", [{"problem": f"p{i}", "answer": f"${i}$"} for i in range(6)])
    spec = Math500Data(path=str(tmp_path))
    assert len(open_questions(spec, 100, "evaluation.sets.math.data").evaluation_set(100)) == 6
    assert [example.prompt for example in open_source(spec, 2).evaluation_set(9)] == ["p4", "p5"]


@needs_whole_gsm8k
@needs_whole_math
def test_the_presets_read_the_real_sets() -> None:
    gsm8k = open_source(Gsm8kData(path=str(WHOLE_SETS / "gsm8k")), 2000)
    assert len(gsm8k.evaluation_set(2000)) == 1319
    assert len(set(prompts(gsm8k, 7473))) == 7473
    maths = open_questions(Math500Data(path=str(WHOLE_SETS / "math500")), 500, "data").evaluation_set(500)
    assert len(maths) == 500 and maths[0].answer == r"\left( 3, \frac{\pi}{2} \right)"


# --- reasoning-gym --------------------------------------------------------------------------------

SUMS = ReasoningGymData(task="chain_sum", config={"min_terms": 2, "max_terms": 2, "max_digits": 1}, num_rows=300)


def test_a_generator_makes_the_same_rows_for_the_same_seed() -> None:
    def rows(spec: ReasoningGymData) -> list[Example]:
        return open_source(spec, 8).training_batch(0, 0, 50)

    assert rows(SUMS) == rows(SUMS) != rows(SUMS.model_copy(update={"seed": 1}))
    assert open_source(SUMS, 8).evaluation_set(8) == open_source(SUMS, 30).evaluation_set(30)[:8]


def test_a_generator_s_questions_are_not_trained_on_and_the_log_says_how_many_were_left_out() -> None:
    source = open_source(SUMS, 40)  # one-digit sums: many of them come up in both
    questions = {example.prompt for example in source.evaluation_set(40)}
    trained = {example.prompt for step in range(10) for example in source.training_batch(0, step, 30)}
    assert trained and not trained & questions
    assert any("is a question of the evaluation" in note for note in source.notes)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"task": "no_such_task"}, "no_such_task"),
        ({"config": {"max_termz": 3}}, "max_termz"),
        ({"config": {"min_terms": 5, "max_terms": 2}}, "max_terms"),
    ],
)
def test_a_generator_that_is_asked_for_what_it_cannot_do_is_a_sentence(change: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        open_source(SUMS.model_copy(update=change), 4)
    assert caught.value.faults[0].pointer == "/data/task"


def test_seed_and_size_of_a_generator_are_natlab_s() -> None:
    with pytest.raises(SpecError, match=r"data\.config holds 'size'.*data\.num_rows"):
        parse_run_spec({"data": {"type": "reasoning_gym", "task": "chain_sum", "config": {"size": 3}}})


def test_all_tasks_of_a_set_are_scored_by_one_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some generators hold ten megabytes of words: one for each task would fill the memory in a night."""
    rows = list(gym_rows(SUMS.model_copy(update={"seed": 77}), 5))
    made: list[Any] = []
    make_tasks = gym.make_tasks
    monkeypatch.setattr(gym, "make_tasks", lambda recipe: made.append(recipe) or make_tasks(recipe))
    for row in [*reversed(rows), *rows]:
        assert row.values is not None and row.entry is not None
        assert gym.score_answer(row.entry, row.values["answer"]) == 1
        assert gym.score_answer(row.entry, "-1") < 1
    assert len(made) == 1


# --- broken rows ----------------------------------------------------------------------------------


def test_skipped_rows_are_counted_and_the_first_ones_told(tmp_path: Path) -> None:
    broken = ["{", "[1]", {"question": "q"}, '{"a": ', "5"]
    path = jsonl(tmp_path / "rows.jsonl", [*ROWS[:3], *broken, *ROWS[3:]])
    source = open_source(JsonlData(path=path, on_bad_row="skip"), 2)
    assert sorted(prompts(source, 4)) == ["q0", "q1", "q2", "q3"]
    assert [example.prompt for example in source.evaluation_set(2)] == ["q4", "q5"]
    [note] = source.notes
    assert "5 rows were skipped" in note and note.endswith("and 2 more")
    assert "line 4 is not valid JSON" in note and "line 5 holds list" in note and "line 7" not in note


def test_rows_that_are_all_broken_are_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no rows \(2 rows were skipped: .*line 1"):
        open_source(JsonlData(path=jsonl(tmp_path / "rows.jsonl", ["{", "{"]), on_bad_row="skip"), 2)


def words(example: Example) -> int:
    return len(example.prompt.split())


def long_rows(tmp_path: Path, on_bad_row: str) -> RowSource:
    rows = [{"question": "word " * (i + 1), "answer": "a"} for i in range(6)]
    spec = JsonlData.model_validate(
        {"path": jsonl(tmp_path / "rows.jsonl", rows), "on_bad_row": on_bad_row, "evaluation_path": str(OUR_ROWS)}
    )
    source = open_source(spec, 3)
    assert isinstance(source, RowSource)
    return source


def test_a_prompt_over_the_limit_is_a_broken_row_found_before_training(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"rows\.jsonl, line 6 has a prompt of 6 tokens, but .*max_prompt_length is 5"):
        long_rows(tmp_path, "fail").limit_prompts(words, 5)
    source = long_rows(tmp_path, "skip")
    source.limit_prompts(words, 200)
    assert source.notes == []
    source = long_rows(tmp_path, "skip")
    with pytest.raises(DataError, match="holds no rows"):
        source.limit_prompts(words, 4)  # the questions, all of them longer


def test_skipping_long_prompts_leaves_the_others_in_a_new_order_of_all(tmp_path: Path) -> None:
    rows = [{"question": "word " * (i + 1) + str(i), "answer": "a"} for i in range(6)]
    path = jsonl(tmp_path / "rows.jsonl", rows)
    source = open_source(
        JsonlData(path=path, evaluation_path=jsonl(tmp_path / "q.jsonl", rows[:1]), on_bad_row="skip"), 1
    )
    source.limit_prompts(words, 4)
    assert sorted(prompts(source, 3)) == sorted(row["question"] for row in rows[:3])
    assert "3 rows were skipped" in source.notes[0]


def test_the_demo_s_longest_prompt_is_held_to_the_limit() -> None:
    source = open_source(DemoArithmetic(min_operations=1, max_operations=3), 4)
    source.limit_prompts(lambda example: len(example.prompt), 11)
    with pytest.raises(SpecError, match=r"rollout\.max_prompt_length is 10, .*have 11 tokens"):
        source.limit_prompts(lambda example: len(example.prompt), 10)


# --- named sets in a spec -------------------------------------------------------------------------


def test_preflight_points_into_a_named_set(tmp_path: Path) -> None:
    data = {"type": "jsonl", "path": jsonl(tmp_path / "rows.jsonl", ["{"])}
    spec = parse_run_spec({"evaluation": {"sets": {"gsm8k": {"data": data}}}})
    with pytest.raises(DataError, match=r"evaluation\.sets\.gsm8k\.data\.path .*line 1") as caught:
        check_run(spec)
    assert caught.value.faults[0].pointer == "/evaluation/sets/gsm8k/data/path"


def test_a_set_named_like_a_kind_of_data_keeps_its_name_in_pointers() -> None:
    with pytest.raises(SpecError) as caught:
        parse_run_spec({"evaluation": {"sets": {"gsm8k": {"data": {"type": "gsm8k", "max_rows": 0}}}}})
    assert [fault.pointer for fault in caught.value.faults] == ["/evaluation/sets/gsm8k/data/max_rows"]


def test_one_row_of_a_set_is_enough_to_ask(tmp_path: Path) -> None:
    spec: DataSpec = JsonlData(path=jsonl(tmp_path / "rows.jsonl", ROWS[:1]))
    assert open_questions(spec, 5, "data").evaluation_set(5) == [Example("q0", "a0")]

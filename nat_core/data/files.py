"""Rows of JSON-lines, CSV and Parquet files, broken ones among them."""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from nat_core.data.example import Examples, Row, Rules, read_examples
from nat_core.data.library import library
from nat_core.spec import CsvData, FileData, ParquetData

_LONGEST_CELL = 2**31 - 1  # characters; csv's own limit of 128 Ki would break a row that is merely long


def read_path(path: str, rules: Rules, rows_of: Callable[[Path], Iterator[Row]]) -> Examples:
    """Examples of a file.

    Raises:
        DataError: it cannot be read, is of another kind, has a broken row where those fail, or holds none.
    """
    try:
        return read_examples(rows_of(Path(path).expanduser()), rules)
    except (OSError, ValueError, RuntimeError) as error:  # the last two: a NUL, a home that is nobody's, no Parquet
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:200]
        where = rules.pointer.lstrip("/").replace("/", ".")
        raise rules.error(f"{where} {path[:200]!r} cannot be read ({reason}); check the path") from None


def rows_reader(spec: FileData) -> Callable[[Path], Iterator[Row]]:
    """What reads the files of a spec."""
    if isinstance(spec, CsvData):
        return lambda path: csv_rows(path, spec.delimiter)
    return parquet_rows if isinstance(spec, ParquetData) else jsonl_rows


def jsonl_rows(path: Path) -> Iterator[Row]:
    """One JSON object a line; blank lines are passed over."""
    with _text(path) as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield _json_row(f"line {number}", line)


def _json_row(place: str, line: str) -> Row:
    if _undecoded(line):
        return Row(place, None, "is not UTF-8 text; convert or remove it")
    try:
        values = json.loads(line)
    except (ValueError, RecursionError) as error:  # besides broken JSON: a number of thousands of digits
        reason = "nested too deeply" if isinstance(error, RecursionError) else getattr(error, "msg", error)
        return Row(place, None, f"is not valid JSON ({reason}); correct or remove it")
    if not isinstance(values, dict):
        return Row(place, None, f"holds {type(values).__name__}, not an object; correct or remove it")
    return Row(place, values)


def csv_rows(path: Path, delimiter: str) -> Iterator[Row]:
    """Rows under a header line, quoted as spreadsheets do; a row may go over several lines.

    Raises:
        ValueError: the header line is broken, or names a column twice.
    """
    csv.field_size_limit(_LONGEST_CELL)
    with _text(path, newline="") as lines:
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        header: list[str] | None = None
        while True:
            place = f"line {reader.line_num + 1}"
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                if header is None:
                    raise ValueError(f"its first line is not valid CSV: {error}") from None
                yield Row(place, None, f"is not valid CSV ({error}); correct or remove it")
                continue
            if header is None:
                header = cells
                _check_columns(cell for cell in cells if cell.strip())
            elif cells:
                yield _csv_row(place, header, cells)


def _check_columns(names: Iterable[str]) -> None:
    """Which of two columns of one name is meant nobody can say."""
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise ValueError(f"it has two columns named {twice[:80]!r}; rename one")


def _csv_row(place: str, header: list[str], cells: list[str]) -> Row:
    if any(map(_undecoded, cells)):
        return Row(place, None, "is not UTF-8 text; convert or remove it")
    if len(cells) != len(header):
        return Row(place, None, f"has {len(cells)} columns, but the first line names {len(header)}; correct it")
    return Row(place, dict(zip(header, cells, strict=True)))


def parquet_rows(path: Path) -> Iterator[Row]:
    """Rows of a Parquet file, in batches.

    Raises:
        ValueError: it is none, or names a column twice.
    """
    parquet: Any = library("pyarrow.parquet", "data.type parquet")
    with path.open("rb") as file:
        table, number = parquet.ParquetFile(file), 0
        _check_columns(table.schema_arrow.names)
        for batch in table.iter_batches(batch_size=1024):
            for values in batch.to_pylist():
                number += 1
                yield Row(f"row {number}", values)


def _text(path: Path, newline: str | None = None) -> TextIO:
    """Undecodable bytes come as lone surrogates, so that only their own row is broken."""
    return path.open(encoding="utf-8-sig", errors="surrogateescape", newline=newline)


def _undecoded(text: str) -> bool:
    return any("\udc80" <= character <= "\udcff" for character in text) if not text.isascii() else False

"""Each format, read back by a program that is not ours: what went in comes out, with its type."""

from __future__ import annotations

import csv
import io
import json
import re
import zipfile
from datetime import UTC, datetime, timedelta

import openpyxl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from app.analytics import parquet as parquet_file
from app.errors import StoreUnavailable
from app.exports import csv as csv_file
from app.exports import ndjson, xlsx
from app.exports.cells import guarded, json_text
from app.exports.columns import Column, Kind, Texts

COLUMNS = [
    Column("text", Kind.TEXT),
    Column("number", Kind.NUMBER),
    Column("flag", Kind.FLAG),
    Column("at", Kind.MOMENT),
    Column("json", Kind.JSON),
]

# What the store can hold: no NUL, no lone surrogate.
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
EDGES = ["", "\r\n", "=1+1", "+16175551234", "_x0041_", " a ", "\x01", "\uffff", *"=+-@\t\r\n\"',;•"]
edgy = st.sampled_from(EDGES)
moments = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)).map(
    lambda at: at.replace(tzinfo=UTC).isoformat().replace("+00:00", "Z")
)
# Few leaves leave room for rows: an example is bounded in all, and larger values made most a single row.
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner) | st.dictionaries(texts, inner),
    max_leaves=5,
)
records = st.lists(
    st.fixed_dictionaries(
        {
            "text": st.none() | st.lists(texts | edgy, min_size=1, max_size=3).map("".join).filter(bool),
            "number": st.none() | st.integers(0, 2**31 - 1),
            "flag": st.booleans(),
            "at": st.none() | moments,
            "json": st.lists(json_values) | st.dictionaries(texts, json_values),
        }
    )
)


def made(name: str, some: list[dict], raw: bool = False) -> bytes:
    rows = [texts_of(record) for record in some]
    match name:
        case "csv":
            found = [csv_file.header([name for name, _ in COLUMNS]), *csv_file.lines(rows, COLUMNS, raw)]
        case "ndjson":
            found = ndjson.lines(some)
        case "xlsx":
            found = xlsx.blocks(rows, COLUMNS)
        case "parquet":
            found = parquet_file.blocks(csv_file.lines(rows, COLUMNS, raw=True), COLUMNS, 1 << 22)
    return b"".join(found)


def texts_of(record: dict) -> Texts:
    values = [record[name] for name, _ in COLUMNS]
    return [value if value is None or isinstance(value, str) else json_text(value) for value in values]


@given(records)
def test_raw_csv_reads_back_exactly(some) -> None:
    rows = list(csv.reader(io.StringIO(made("csv", some, raw=True).decode(), newline=""), strict=True))
    assert rows[0] == ["text", "number", "flag", "at", "json"]
    for row, record in zip(rows[1:], some, strict=True):
        assert row[0] == (record["text"] or "")
        assert row[1] == ("" if record["number"] is None else str(record["number"]))
        assert row[2] == ("true" if record["flag"] else "false")
        assert row[3] == (record["at"] or "")
        assert json.loads(row[4]) == record["json"]


@given(records)
def test_in_guarded_csv_no_cell_can_become_a_formula_and_only_guarded_cells_differ(some) -> None:
    rows = list(csv.reader(io.StringIO(made("csv", some).decode(), newline=""), strict=True))
    for row, record in zip(rows[1:], some, strict=True):
        assert not any(value.startswith(("=", "+", "-", "@", "\t", "\r")) for value in row)
        text = record["text"] or ""
        assert row[0] == (f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text)


def test_each_character_that_starts_a_formula_is_guarded_and_no_number_is() -> None:
    assert [guarded(f"{first}1") for first in "=+-@\t\r'1"] == [
        "'=1",
        "'+1",
        "'-1",
        "'@1",
        "'\t1",
        "'\r1",
        "'1",
        "11",
    ]
    assert list(csv_file.lines([["-1"]], [Column("n", Kind.NUMBER)])) == [b"-1\n"]


def test_csv_has_quotes_only_where_needed_and_distinguishes_empty_text_from_null() -> None:
    record = {"text": 'say "a, b"', "number": 0, "flag": False, "at": None, "json": []}
    assert made("csv", [record]) == b'text,number,flag,at,json\n"say ""a, b""",0,false,,[]\n'
    assert list(csv_file.lines([["", None]], COLUMNS[:2])) == [b'"",\n']
    assert list(csv_file.lines([[None]], COLUMNS[:1])) == [b'""\n']


@given(records, st.integers(1, 50))
def test_csv_is_read_again_wherever_its_blocks_end(some, size) -> None:
    rows = [[text or "" for text in texts_of(record)] for record in some]
    text = b"".join(csv_file.lines(rows, COLUMNS, raw=True))
    blocks = [text[start : start + size] for start in range(0, len(text), size)]
    assert list(csv_file.read(blocks)) == rows


@given(records)
def test_ndjson_holds_each_record_on_a_line(some) -> None:
    text = made("ndjson", some).decode()
    assert [json.loads(line) for line in text.split("\n")[:-1]] == some
    assert text == "" or text.endswith("\n")


def test_no_character_within_an_ndjson_record_ends_a_line() -> None:
    text = "".join(map(chr, range(1, 0x3000)))
    record = {"text": text, "number": 0, "flag": False, "at": None, "json": {text: [text]}}
    lines = made("ndjson", [record, record]).decode().splitlines()
    assert [json.loads(line) for line in lines] == [record, record]


@given(records)
def test_xlsx_reads_back_with_types_and_without_a_formula(some) -> None:
    sheet = openpyxl.load_workbook(io.BytesIO(made("xlsx", some))).active
    rows = list(sheet.iter_rows())
    assert [one.value for one in rows[0]] == ["text", "number", "flag", "at", "json"]
    assert len(rows) == len(some) + 1
    for row, record in zip(rows[1:], some, strict=True):
        text, number, flag, at, nested = row
        assert {one.data_type for one in row} <= {"s", "n", "b", "d"}  # no "f"
        assert as_spreadsheets_read(text.value) == record["text"]
        assert (number.value, flag.value) == (record["number"], record["flag"])
        assert json.loads(as_spreadsheets_read(nested.value)) == record["json"]
        assert (at.value is None) == (record["at"] is None)
        if at.value:
            assert abs(at.value.replace(tzinfo=UTC) - datetime.fromisoformat(record["at"])) < timedelta(
                milliseconds=2
            )


def as_spreadsheets_read(text: str | None) -> str | None:
    """openpyxl leaves the standard's escapes of single characters as they are."""

    return text and re.sub("_x([0-9A-F]{4})_", lambda match: chr(int(match[1], 16)), text)


def test_rows_beyond_a_sheet_continue_in_the_next_one(monkeypatch) -> None:
    monkeypatch.setattr(xlsx, "MAX_ROWS", 4)
    some = [{"text": str(n), "number": n, "flag": True, "at": None, "json": []} for n in range(6)]
    for count, sizes in [(0, [1]), (3, [4]), (4, [4, 2]), (6, [4, 4])]:
        book = openpyxl.load_workbook(io.BytesIO(made("xlsx", some[:count])))
        sheets = [list(sheet.values) for sheet in book]
        assert [len(rows) for rows in sheets] == sizes
        assert {rows[0][1] for rows in sheets} == {"number"}
        assert [row[1] for rows in sheets for row in rows[1:]] == list(range(count))


@pytest.mark.parametrize("text", ["a" * 32_767, "a" * 32_768, "😀" * 16_383, "😀" * 16_384])
def test_a_text_longer_than_a_cell_is_cut_and_marked(text) -> None:
    record = {"text": text, "number": None, "flag": True, "at": None, "json": []}
    found = openpyxl.load_workbook(io.BytesIO(made("xlsx", [record]))).active["A2"].value
    assert len(found.encode("utf-16-le")) // 2 <= 32_767
    if len(text.encode("utf-16-le")) // 2 <= 32_767:
        assert found == text
    else:
        assert f"cut: {len(text)} characters in all" in found[-80:]


def test_an_xlsx_entry_needs_no_form_that_spreadsheets_refuse() -> None:
    book = zipfile.ZipFile(io.BytesIO(made("xlsx", [])))
    assert book.testzip() is None
    assert max(entry.extract_version for entry in book.infolist()) <= 20


@given(records)
def test_parquet_reads_back_with_types(some) -> None:
    table = parquet.read_table(io.BytesIO(made("parquet", some)))
    assert {name: str(table.schema.field(name).type) for name in table.column_names} == {
        "text": "string",
        "number": "int64",
        "flag": "bool",
        "at": "timestamp[us, tz=UTC]",
        "json": "string",
    }
    expected = [record | {"at": datetime.fromisoformat(record["at"]) if record["at"] else None} for record in some]
    assert [row | {"json": json.loads(row["json"])} for row in table.to_pylist()] == expected


def test_parquet_of_many_rows_holds_them_in_several_groups() -> None:
    some = [{"text": None, "number": n, "flag": True, "at": None, "json": {}} for n in range(10_000)]
    file = parquet.ParquetFile(io.BytesIO(made("parquet", some)))
    assert file.num_row_groups > 1
    assert file.read()["number"].to_pylist() == list(range(10_000))


def test_a_parquet_file_whose_rows_break_off_fails() -> None:
    def broken():
        yield b"1\n"
        raise StoreUnavailable("gone")

    with pytest.raises(StoreUnavailable, match="gone"):
        list(parquet_file.blocks(broken(), COLUMNS[1:2], 1 << 22))

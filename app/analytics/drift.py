"""Drift: values and fields that the normaliser does not know, so that a change at Plum's end is seen the same day.

An item is an unknown word of a known field, an unknown field, or a problem (a known field's value that does not
parse), with the number of outcomes that have it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from app.analytics.sql import fetched
from app.products import KNOWN_FIELDS, call_details, dev

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection as Cursor

OTHERS = "(others)"
MOST = 1000  # items of a kind, product and integration; all further ones are counted as OTHERS
MAX_LENGTH = 200  # of a name or word, since senders choose both

Row = dict[str, Any]

_NAMES = ("kind", "product", "integration", "field", "value", "count", "first_at", "last_at", "delivery_id")
_KNOWN = {
    "results": list(dev.RESULTS),
    "callee_types": list(dev.CALLEE_TYPES),
    "events": list(call_details.EVENTS),
    "fields": sorted(KNOWN_FIELDS),
}
_TRIMMED = "lower(trim({0}, ' ' || chr(9) || chr(10) || chr(11) || chr(12) || chr(13)))"
# A field's name with the index of each list item removed.
_FOLDED = r"regexp_replace({0}, '\[\d+\]', '[]', 'g')"
_SHORT = f"CASE WHEN length({{0}}) > {MAX_LENGTH} THEN {{0}}[:{MAX_LENGTH - 1}] || '…' ELSE {{0}} END"
_TYPE = """CASE kind WHEN 'VARCHAR' THEN 'string' WHEN 'BOOLEAN' THEN 'boolean' WHEN 'NULL' THEN 'null'
    WHEN 'ARRAY' THEN 'array' WHEN 'OBJECT' THEN 'object' ELSE 'number' END"""
# A value that is not text is a problem of its field, not a word.
_IS_TEXT = """problems = '[]' OR NOT EXISTS (
    SELECT 1 FROM json_each(problems) AS one
    WHERE one.value->>'problem' = 'not_text' AND lower(one.value->>'field') IN ({0}))"""

_DRIFT = f"""
WITH shown AS (
    SELECT 'word' AS kind, 'status' AS field, {_SHORT.format("status_raw")} AS value,
        product, integration, received_at, first_delivery_id, id
    FROM outcomes
    WHERE {_TRIMMED.format("status_raw")} NOT IN (SELECT unnest($results))
        AND ({_IS_TEXT.format("'status', 'result'")})
    UNION ALL
    SELECT 'word', 'callee_type', {_SHORT.format("callee_type_raw")},
        product, integration, received_at, first_delivery_id, id
    FROM outcomes
    WHERE {_TRIMMED.format("callee_type_raw")} NOT IN (SELECT unnest($callee_types))
        AND ({_IS_TEXT.format("'callee_type'")})
    UNION ALL
    SELECT 'word', 'event', {_SHORT.format("word")}, product, integration, received_at, first_delivery_id, id
    FROM (SELECT *, unnest(json_extract_string(events, '$[*].event')) AS word FROM outcomes WHERE events <> '[]')
    WHERE {_TRIMMED.format("word")} NOT IN (SELECT unnest($events))
    UNION ALL
    SELECT 'problem', folded, problem, product, integration, received_at, first_delivery_id, id
    FROM (
        SELECT outcomes.*, lower({_FOLDED.format("one.value->>'field'")}) AS folded, one.value->>'problem' AS problem
        FROM outcomes, json_each(problems) AS one WHERE problems <> '[]'
    )
    WHERE folded IN (SELECT unnest($fields))
    UNION ALL
    SELECT 'field', {_SHORT.format("folded")}, {_TYPE}, product, integration, received_at, first_delivery_id, id
    FROM (
        SELECT outcomes.*, {_FOLDED.format("one.key")} AS folded, one.type AS kind
        FROM outcomes, json_each(extra) AS one WHERE extra <> '{{}}'
    )
    WHERE lower(folded) NOT IN (SELECT unnest($fields))
),
items AS (
    SELECT kind, product, integration, field, value, count(DISTINCT id) AS count, min(received_at) AS first_at,
        max(received_at) AS last_at, arg_min(first_delivery_id, (received_at, first_delivery_id)) AS delivery_id
    FROM shown GROUP BY ALL
),
numbered AS (
    SELECT *, row_number() OVER (PARTITION BY kind, product, integration ORDER BY first_at, field, value) > {MOST}
        AS is_beyond
    FROM items
),
kept AS (
    SELECT kind, product, integration,
        CASE WHEN is_beyond THEN '{OTHERS}' ELSE field END AS field,
        CASE WHEN is_beyond THEN '' ELSE value END AS value,
        sum(count)::BIGINT AS count, min(first_at) AS first_at, max(last_at) AS last_at,
        arg_min(delivery_id, (first_at, delivery_id)) AS delivery_id
    FROM numbered GROUP BY ALL
)
SELECT {", ".join(_NAMES)} FROM kept
"""  # noqa: S608


def drift(cursor: Cursor, since: datetime | None, among: Mapping[str, Sequence[str]]) -> list[Row]:
    """Return the items first seen at `since` or later whose columns have one of the values in `among`; the newest
    first."""
    items = [dict(zip(_NAMES, row, strict=True)) for row in fetched(cursor.execute(_DRIFT, _KNOWN))]
    selected = [
        row
        for row in items
        if (since is None or row["first_at"] >= since) and all(row[name] in among[name] for name in among)
    ]
    return sorted(selected, key=lambda row: (-row["first_at"].timestamp(), row["kind"], row["field"], row["value"]))

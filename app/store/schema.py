"""The tables. Migrations create them; a test compares the two."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Uuid,
    false,
    func,
    literal_column,
    text,
)

from app.store.types import CodePointText, JsonText, UtcDateTime, Word

# The fields by which an outcome is looked up.
IDENTIFYING = ("phone_number", "call_id", "message_reference", "reference")
# Those of any length. An entry of PostgreSQL's B-trees has at most some 2,700 bytes, so that its indexes leave out
# longer texts.
UNBOUNDED = ("call_id", "message_reference")
INDEXED_CHARACTERS = 500

# Expected calls whose results are identified by number and batch.
WITHOUT_REFERENCE = "reference IS NULL AND phone_number IS NOT NULL"

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)


def is_indexed(column: Column[str]) -> ColumnElement[bool]:
    """Return the condition that PostgreSQL's index has this text. It uses the index only if a query repeats it."""
    return func.length(column) <= literal_column(str(INDEXED_CHARACTERS))


integrations = Table(
    "integrations",
    metadata,
    Column("name", CodePointText, primary_key=True),
    Column("product", Word),  # null: detected from each body
    Column("created_at", UtcDateTime, nullable=False),
    Column("disabled_at", UtcDateTime),
    Column("script", CodePointText),  # null: the default script
    Column("script_sha256", LargeBinary(32)),  # lets readers skip a script that they already have
    Column("allowed_from", CodePointText),  # networks, separated by commas; null: any
    Column("password_hash", LargeBinary(32)),  # null: no password is required
)

integration_keys = Table(
    "integration_keys",
    metadata,
    Column("key_hash", LargeBinary(32), primary_key=True),
    Column("integration", CodePointText, ForeignKey("integrations.name"), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime),  # set by rotate: the end of the grace period
)

tokens = Table(
    "tokens",
    metadata,
    Column("name", CodePointText, primary_key=True),
    Column("token_hash", LargeBinary(32), nullable=False, unique=True),
    Column("scope", Word, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("revoked_at", UtcDateTime),
    Column("last_used_at", UtcDateTime),  # approximate: updated at most once a minute
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("integration", CodePointText, nullable=False),
    Column("declared", Word),  # the integration's product when the delivery arrived
    Column("product", Word),  # the product as which it was parsed, else the declared one
    Column("received_at", UtcDateTime, nullable=False),
    Column("via", Word, nullable=False),
    Column("verdict", Word, nullable=False),
    Column("reason", Word),
    Column("outcome_id", Uuid),
    Column("reference", CodePointText),
    Column("batch", CodePointText),
    Column("content_type", CodePointText),
    Column("headers", JsonText, nullable=False),
    Column("query", CodePointText, nullable=False),
    Column("remote_addr", CodePointText),
    Column("size", Integer, nullable=False),
    Column("sha256", LargeBinary(32), nullable=False),
    Column("problems", JsonText, nullable=False),
    Column("normaliser", Word, nullable=False),
    Column("digest", CodePointText),
    Column("cut_short", Boolean, nullable=False),
    Column("body", LargeBinary, nullable=False),
    Column("later", Boolean, nullable=False, server_default=false()),  # not the first delivery of its outcome
    Column("start_of", Uuid),  # set for a start that identifies its call
)
Index("ix_deliveries_newest", deliveries.c.received_at, deliveries.c.id.desc())
# SQLite uses a partial index only if a query repeats its WHERE literally, and SQLAlchemy would write `later = 1`.
is_later: ColumnElement[bool] = literal_column("deliveries.later")
# Outcome ids are random, so an index of all deliveries by outcome would write a page for each delivery. Nearly every
# outcome has one delivery, which its row names; this index has only the others.
Index(
    "ix_deliveries_later",
    deliveries.c.outcome_id,
    sqlite_where=deliveries.c.later,
    postgresql_where=deliveries.c.later,
)
Index(
    "ix_deliveries_start_of",
    deliveries.c.start_of,
    sqlite_where=deliveries.c.start_of.is_not(None),
    postgresql_where=deliveries.c.start_of.is_not(None),
)
# Few deliveries are quarantined, and people look at exactly these.
is_quarantined: ColumnElement[bool] = literal_column("deliveries.verdict = 'quarantined'")
Index(
    "ix_deliveries_quarantined",
    deliveries.c.reason,
    deliveries.c.received_at,
    deliveries.c.id,
    sqlite_where=text("verdict = 'quarantined'"),
    postgresql_where=text("verdict = 'quarantined'"),
)

outcomes = Table(
    "outcomes",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("integration", CodePointText, nullable=False),
    Column("product", Word, nullable=False),
    Column("identity", Word, nullable=False),
    Column("call_id", CodePointText),
    Column("message_reference", CodePointText),
    Column("reference", CodePointText),
    Column("batch", CodePointText),
    Column("phone_number", CodePointText),
    Column("phone_number_raw", CodePointText),
    Column("status", Word, nullable=False),
    Column("status_raw", CodePointText),
    Column("callee_type", Word),
    Column("callee_type_raw", CodePointText),
    Column("disposition", Word, nullable=False),
    Column("answered_by", Word),
    Column("attempts", Integer),
    Column("max_attempts", Integer),
    Column("reattempt_wait_seconds", Integer),
    Column("duration_seconds", Integer),
    Column("queued_at", UtcDateTime),
    Column("start_at", UtcDateTime),
    Column("end_at", UtcDateTime),
    Column("last_attempt_at", UtcDateTime),
    Column("connected_at", UtcDateTime),
    Column("disconnected_at", UtcDateTime),
    Column("ended_at", UtcDateTime, nullable=False),
    Column("received_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("events", JsonText, nullable=False),
    Column("extra", JsonText, nullable=False),
    Column("problems", JsonText, nullable=False),
    Column("deliveries", Integer, nullable=False),
    Column("possible_duplicate", Boolean, nullable=False, server_default=false()),
    Column("normaliser", Word, nullable=False),
    Column("metadata", JsonText, nullable=False, server_default="{}"),  # from its expected call
    Column("digest", CodePointText, nullable=False),
    Column("body_sha256", LargeBinary(32)),  # only for identity none: detects possible duplicates
    Column("first_delivery_id", Uuid),
)
Index("ix_outcomes_newest", outcomes.c.ended_at, outcomes.c.id.desc())
# Indexes by the fields that identify a call, newest first. Other fields have no index here: the analytical copy
# answers other questions, and each index would slow down every callback.
for _identifying in IDENTIFYING:
    _is_known = outcomes.c[_identifying].is_not(None)
    Index(
        f"ix_outcomes_{_identifying}",
        outcomes.c[_identifying],
        outcomes.c.ended_at,
        outcomes.c.id.desc(),
        sqlite_where=_is_known,
        postgresql_where=is_indexed(outcomes.c[_identifying]) if _identifying in UNBOUNDED else _is_known,
    )
Index(
    "ix_outcomes_same_body",
    outcomes.c.integration,
    outcomes.c.body_sha256,
    sqlite_where=outcomes.c.body_sha256.is_not(None),
    postgresql_where=outcomes.c.body_sha256.is_not(None),
)

# Queued calls. `outcome_id` is the result, once it has arrived; `due_at` is when to look for it, null if never.
expected_calls = Table(
    "expected_calls",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("integration", CodePointText, nullable=False),
    Column("reference", CodePointText),
    Column("call_id", CodePointText),
    Column("phone_number", CodePointText),
    Column("batch", CodePointText),
    Column("ends_at", UtcDateTime),
    Column("metadata", JsonText, nullable=False),
    Column("state", Word, nullable=False),
    Column("registered_at", UtcDateTime, nullable=False),
    Column("queued_at", UtcDateTime),
    Column("polled_at", UtcDateTime),
    Column("outcome_id", Uuid),
    Column("due_at", UtcDateTime),
    Column("polls", Integer, nullable=False),
)
Index("ix_expected_calls_newest", expected_calls.c.registered_at, expected_calls.c.id.desc())
for _name in ("reference", "call_id", "batch", "outcome_id", "due_at"):
    Index(
        f"ix_expected_calls_{_name}",
        expected_calls.c[_name],
        sqlite_where=expected_calls.c[_name].is_not(None),
        postgresql_where=expected_calls.c[_name].is_not(None),
    )
Index(
    "ix_expected_calls_number",
    expected_calls.c.phone_number,
    sqlite_where=text(WITHOUT_REFERENCE),
    postgresql_where=text(WITHOUT_REFERENCE),
)
# With a parameter SQLite would read each row, since it could not tell that the index has only these.
is_missing: ColumnElement[bool] = literal_column("expected_calls.state = 'missing'")
Index(
    "ix_expected_calls_missing",
    expected_calls.c.id,
    sqlite_where=text("state = 'missing'"),
    postgresql_where=text("state = 'missing'"),
)

# Numbers that must not be dialled again.
do_not_call = Table(
    "do_not_call",
    metadata,
    Column("phone_number", CodePointText, primary_key=True),  # E.164
    Column("added_at", UtcDateTime, nullable=False),
)

# The journal: the outcomes that each transaction created or changed, for `store/journal.py`.
changes = Table(
    "changes",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("changed_at", UtcDateTime, nullable=False),
    Column("outcome_ids", LargeBinary, nullable=False),  # 16 bytes each
)

# The audit log: who saw phone numbers or bodies, exported data, or changed something.
audit = Table(
    "audit",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("at", UtcDateTime, nullable=False),
    Column("who", CodePointText, nullable=False),
    Column("what", CodePointText, nullable=False),
    Column("asked", JsonText, nullable=False),
    Column("record_id", Uuid),
    Column("remote_addr", CodePointText),
    Column("status", Integer),
)
Index("ix_audit_newest", audit.c.at, audit.c.id.desc())

# Legal holds, which protect the records of an integration or of one call from pruning and erasing.
holds = Table(
    "holds",
    metadata,
    Column("kind", Word, primary_key=True),
    Column("subject", CodePointText, primary_key=True),  # the integration's name, or the outcome's id
    Column("reason", CodePointText, nullable=False),
    Column("made_at", UtcDateTime, nullable=False),
)

# Lists of calls saved under a name by analysts; `asked` is the list's query string.
saved_views = Table(
    "saved_views",
    metadata,
    Column("name", CodePointText, primary_key=True),
    Column("asked", CodePointText, nullable=False),
    Column("made_by", CodePointText, nullable=False),  # the token's name
    Column("made_at", UtcDateTime, nullable=False),
)

# State that `store/journal.py` keeps about the journal itself.
positions = Table(
    "positions",
    metadata,
    Column("name", Word, primary_key=True),
    Column("position", JsonText, nullable=False),
)

"""The tables. Migrations make them; a test holds the two against each other."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Uuid,
    false,
)

from app.store.types import CodePointText, JsonText, UtcDateTime, Word

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)

integrations = Table(
    "integrations",
    metadata,
    Column("name", CodePointText, primary_key=True),
    Column("product", Word),  # null: told from each body
    Column("created_at", UtcDateTime, nullable=False),
    Column("disabled_at", UtcDateTime),
)

integration_keys = Table(
    "integration_keys",
    metadata,
    Column("key_hash", LargeBinary(32), primary_key=True),
    Column("integration", CodePointText, ForeignKey("integrations.name"), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime),  # set by rotate: when the grace ends
)

tokens = Table(
    "tokens",
    metadata,
    Column("name", CodePointText, primary_key=True),
    Column("token_hash", LargeBinary(32), nullable=False, unique=True),
    Column("scope", Word, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("revoked_at", UtcDateTime),
    Column("last_used_at", UtcDateTime),  # about: it is written once a minute at most
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("integration", CodePointText, nullable=False),
    Column("declared", Word),  # what the integration declared when it came
    Column("product", Word),  # what it was read as, else what was declared
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
    Column("later", Boolean, nullable=False, server_default=false()),  # than the first of its outcome
)
Index("ix_deliveries_newest", deliveries.c.received_at, deliveries.c.id.desc())
# Outcome ids are random, so an index of all deliveries by them would write a page for each. Nearly every outcome has
# one delivery, which its row names; only the others are looked up here.
Index(
    "ix_deliveries_later",
    deliveries.c.outcome_id,
    sqlite_where=deliveries.c.later,
    postgresql_where=deliveries.c.later,
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
    Column("digest", CodePointText, nullable=False),
    Column("body_sha256", LargeBinary(32)),  # of identity none only: what tells possible duplicates
    Column("first_delivery_id", Uuid),
)
Index("ix_outcomes_newest", outcomes.c.ended_at, outcomes.c.id.desc())
Index(
    "ix_outcomes_same_body",
    outcomes.c.integration,
    outcomes.c.body_sha256,
    sqlite_where=outcomes.c.body_sha256.is_not(None),
    postgresql_where=outcomes.c.body_sha256.is_not(None),
)

# Which outcomes each transaction made or changed, for `store/changes.py`.
changes = Table(
    "changes",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("changed_at", UtcDateTime, nullable=False),
    Column("outcome_ids", LargeBinary, nullable=False),  # 16 bytes each
    Column("quarters", LargeBinary),  # that these ended in, before and after; null: written by an older program
)

# Figures of the outcomes kept ready, for `store/rolling.py` and `store/rolled.py`: how far they are, which of them do
# not hold all that happened until then, what combinations of words there are, and the figures themselves.
rollup_state = Table(
    "rollup_state",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),  # there is one row
    Column("round", BigInteger, nullable=False),  # counts writes, so that of two at once one gives up
    Column("seen_end", BigInteger),  # a horizon of changes; null before the first
    Column("seen_running", JsonText, nullable=False),
    Column("filled_from", BigInteger),  # from this quarter on all are there; null: none yet
)
rollup_dirty = Table(
    "rollup_dirty",
    metadata,
    Column("span", Integer, primary_key=True, autoincrement=False),
    Column("quarter", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("touched_at", UtcDateTime, nullable=False),
)
rollup_kinds = Table(
    "rollup_kinds",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("integration", CodePointText, nullable=False),
    Column("product", Word, nullable=False),
    Column("status", Word, nullable=False),
    Column("disposition", Word, nullable=False),
    Column("callee_type", Word),
    Column("answered_by", Word),
)
rollups = Table(
    "rollups",
    metadata,
    Column("span", Integer, primary_key=True, autoincrement=False),  # in quarters
    Column(
        "quarter", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False
    ),  # its first
    Column("count", BigInteger, nullable=False),
    Column("answered", BigInteger, nullable=False),
    Column("human", BigInteger, nullable=False),
    Column("known", BigInteger, nullable=False),
    Column("attempts", BigInteger, nullable=False),
    Column("attempted", BigInteger, nullable=False),
    Column("durations", LargeBinary, nullable=False),
    Column("kinds", LargeBinary, nullable=False),
    Column("batches", LargeBinary, nullable=False),
    Column("kind_durations", LargeBinary, nullable=False),
    Column("batch_durations", LargeBinary, nullable=False),
)

# Which values the outcomes of a quarter or day have, and when in it, for `store/following.py`.
traces = Table(
    "traces",
    metadata,
    Column("field", CodePointText, primary_key=True),
    Column("span", Integer, primary_key=True, autoincrement=False),
    Column("quarter", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("first", CodePointText, primary_key=True),
    Column("entries", LargeBinary, nullable=False),
)

# Who saw phone numbers or bodies, took data out, or changed something.
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

# What was new in deliveries, for `store/drift.py`: each thing once, how often it was shown, and which deliveries
# have been counted: those that showed something, and all of outcomes that several deliveries tell of.
drift = Table(
    "drift",
    metadata,
    Column("id", Uuid, primary_key=True),  # made of the five that follow
    Column("kind", Word, nullable=False),
    Column("product", Word, nullable=False),
    Column("integration", CodePointText, nullable=False),
    Column("field", CodePointText, nullable=False),
    Column("value", CodePointText, nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("first_at", UtcDateTime, nullable=False),
    Column("last_at", UtcDateTime, nullable=False),
    Column("delivery_id", Uuid, nullable=False),  # the first that showed it
)
drift_deliveries = Table("drift_deliveries", metadata, Column("delivery_id", Uuid, primary_key=True))

# How far those have come who follow `changes`.
positions = Table(
    "positions",
    metadata,
    Column("name", Word, primary_key=True),
    Column("position", JsonText, nullable=False),
)

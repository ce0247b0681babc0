"""The command `refused`: posts with a wrong key or from a wrong network, which can still be accepted."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID

import click

from app import assembly
from app.auditing import log_command
from app.commands.context import opened
from app.intake.importing import Import, Line
from app.intake.refused import Refused
from app.model import KnownKey
from app.store import schema_version
from app.store.integrations import ActiveKeys, integrations_by_name
from app.store.records import stored_deliveries
from app.terminal import as_json, complain, example, print_rows, print_values


@click.group()
def refused() -> None:
    """Manage posts that were refused because of their sender.

    The newest ones are kept for a while.
    """


@refused.command("list")
@as_json
@example("refused list")
def list_refused(*, as_json: bool) -> None:
    """List the refused posts, oldest first.

    Each has its cause and the integration that now has their key, if any.
    """
    with opened() as (settings, database):
        keys = ActiveKeys(database).look(datetime.now(UTC))
        rows = [_row(entry, keys) for entry in Refused(settings.spool_dir).entries()]
    print_rows(rows, as_json=as_json)


@refused.command("retry")
@click.argument("ids", nargs=-1, type=click.UUID, metavar="[ID]...")
@click.option("--integration", metavar="NAME", help="Integration of the posts whose key is unknown.")
@as_json
@example("refused retry --integration reminders 0190163d-8694-739b-aea5-966c26f8ad91")
def retry(ids: tuple[UUID, ...], integration: str | None, *, as_json: bool) -> None:
    """Accept refused posts as if acknowledged on arrival.

    Without ID those whose key was unknown and is known now.

    Each post is stored once, however often this command runs.
    """
    if integration and not ids:
        raise click.UsageError("say which are of this integration: give their IDs, from refused list")
    with opened() as (settings, database):
        schema_version.check(database)
        log_command(database, "refused retry", [("id", str(key)) for key in ids])
        keys = ActiveKeys(database).look(datetime.now(UTC))
        posts = Refused(settings.spool_dir).entries()
        entries = [entry for entry in posts if (UUID(entry["id"]) in ids if ids else entry["cause"] == "unknown_key")]
        owned = [entry | {"integration": _owner(entry, keys) or integration} for entry in entries]
        importer = Import(
            assembly.recorder(database, settings),
            partial(stored_deliveries, database),
            integrations_by_name(database),
            complain,
        )
        importer.run(_lines([entry for entry in owned if entry["integration"]]))
    unowned = sum(not entry["integration"] for entry in owned)
    print_values({**dict(sorted(importer.counts.items())), "of_nobody": unowned}, as_json=as_json)
    if missing := set(ids) - {UUID(entry["id"]) for entry in entries}:
        raise click.ClickException(f"{min(missing)} is not kept, or no longer; see: refused list")


def _owner(entry: dict[str, Any], keys: dict[str, KnownKey]) -> str | None:
    known = keys.get(entry["key_sha256"])
    return known.integration.name if known else None


def _lines(entries: list[dict[str, Any]]) -> Iterator[Line]:
    return (Line("refused", number, json.dumps(entry).encode()) for number, entry in enumerate(entries, start=1))


def _row(entry: dict[str, Any], keys: dict[str, KnownKey]) -> dict[str, Any]:
    return {
        "id": entry["id"],
        "received_at": datetime.fromisoformat(entry["received_at"]),
        "cause": entry["cause"],
        "integration": _owner(entry, keys),
        "remote_addr": entry["remote_addr"],
        "size": len(base64.b64decode(entry["body_base64"])),
    }

"""The commands that register calls and numbers: `plum expect`, `plum do-not-call`."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from app.auditing import log_command
from app.commands.context import opened
from app.config import Settings
from app.store import do_not_call, expected, schema_version
from app.store.integrations import integrations_by_name
from app.terminal import as_json, example, print_rows, print_values
from app.values import BadValue, phone
from app.web.errors import Invalid
from app.web.registration import calls_from, first_wrong, objects_from


@click.command("expect")
@click.argument("file", type=click.Path(dir_okay=False, exists=True, path_type=Path))
@as_json
@example("plum expect queued.csv")
def expect_command(file: Path, *, as_json: bool) -> None:
    """Register calls that other systems queued, from CSV.

    Columns: integration, reference or call_id (or both), phone_number, batch, ends_at; other columns become metadata.
    To register the same calls again changes nothing.
    """
    with opened() as (settings, database):
        schema_version.check(database)
        log_command(database, "plum expect", [("file", file.name)])
        names = integrations_by_name(database)
        lines, objects = _objects(file)
        try:
            calls = calls_from(objects, names, settings.default_region)
        except Invalid as error:
            raise click.ClickException(f"{file}: {first_wrong(error, lines)}; nothing is registered") from None
        rows = expected.register(database, calls)
    print_values({"registered": len(rows)}, as_json=as_json)


@click.group("do-not-call")
def do_not_call_group() -> None:
    """Manage the phone numbers that redialling leaves out."""


@do_not_call_group.command("add")
@click.argument("numbers", nargs=-1, required=True, metavar="PHONE...")
@as_json
@example("plum do-not-call add +16175551234")
def add_numbers(numbers: tuple[str, ...], *, as_json: bool) -> None:
    """Add phone numbers; redialling leaves them out."""
    with opened() as (settings, database):
        log_command(database, "plum do-not-call add", [("numbers", str(len(numbers)))])
        added = do_not_call.add(database, _e164s(settings, numbers), datetime.now(UTC))
    print_values({"added": added}, as_json=as_json)


@do_not_call_group.command("remove")
@click.argument("numbers", nargs=-1, required=True, metavar="PHONE...")
@as_json
@example("plum do-not-call remove +16175551234")
def remove_numbers(numbers: tuple[str, ...], *, as_json: bool) -> None:
    """Remove phone numbers; redialling may dial them again."""
    with opened() as (settings, database):
        log_command(database, "plum do-not-call remove", [("numbers", str(len(numbers)))])
        removed = do_not_call.remove(database, _e164s(settings, numbers))
    print_values({"removed": removed}, as_json=as_json)


@do_not_call_group.command("list")
@as_json
@example("plum do-not-call list --json")
def list_numbers(*, as_json: bool) -> None:
    """List the phone numbers, unmasked."""
    with opened() as (_, database):
        log_command(database, "plum do-not-call list")
        print_rows(do_not_call.list_numbers(database), as_json=as_json)


def _objects(file: Path) -> tuple[list[int], list[dict[str, Any]]]:
    """Return the number of the line at which each row ends, and the rows as objects."""
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            reader = csv.DictReader(text, strict=True)
            rows = [(reader.line_num, row) for row in reader]
            header = reader.fieldnames or []
    except (UnicodeDecodeError, csv.Error) as error:
        raise click.ClickException(f"{file}: is no CSV in UTF-8: {error}") from None
    if twice := [name for name in header if name and header.count(name) > 1]:
        raise click.ClickException(f"{file}: has the column {twice[0]} more than once; nothing is registered")
    if longer := [line for line, row in rows if None in row]:
        raise click.ClickException(f"{file}: line {longer[0]}: has more cells than the header; nothing is registered")
    if not rows:
        raise click.ClickException(f"{file}: has no row below its header")
    return [line for line, _ in rows], list(objects_from(row for _, row in rows))


def _e164s(settings: Settings, numbers: Iterable[str]) -> list[str]:
    e164s = []
    for number in numbers:
        try:
            e164 = phone(number, settings.default_region)
        except BadValue:
            e164 = None
        if e164 is None:  # also for the empty text of an unset variable
            raise click.UsageError(f"{number!r} is no full phone number; give it like +16175551234")
        e164s.append(e164)
    return e164s

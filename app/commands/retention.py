"""The commands for retention: `prune`, `hold`, `erase`."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import asdict
from datetime import UTC, datetime
from uuid import UUID

import click

from app import assembly
from app.auditing import log_command
from app.commands.context import opened
from app.erasing import erase
from app.model import HoldKind
from app.pruning import retained
from app.store import legal_holds, schema_version
from app.terminal import as_json, complain, example, print_json, print_rows, print_values, say


@click.command()
@click.option("--dry-run", is_flag=True, help="Remove nothing, only show how many records would be removed.")
@as_json
@example("prune --dry-run")
def prune(*, dry_run: bool, as_json: bool) -> None:
    """Remove records older than the PLUM_RETAIN settings.

    They are PLUM_RETAIN_OUTCOMES_DAYS, PLUM_RETAIN_DELIVERIES_DAYS and PLUM_RETAIN_AUDIT_DAYS.

    `serve` does so by itself every hour. An outcome is removed with its deliveries, so many days after its last
    delivery. Pruning is slow, so that callbacks do not wait.
    """
    with opened() as (settings, database):
        schema_version.check(database)
        ages = retained(settings)
        if not ages:
            complain("nothing is set to be removed: see PLUM_RETAIN_OUTCOMES_DAYS in the README")
        elif not dry_run:
            log_command(database, "prune", [(records.value, f"{age.days} days") for records, age in ages.items()])
        removed = Counter({records.value: 0 for records in ages})
        bar = click.progressbar(
            length=0, label="removing", file=sys.stderr, hidden=not sys.stderr.isatty(), show_pos=True
        )
        with bar:
            for step in assembly.create_pruner(settings, database).prune(dry_run=dry_run):
                removed += {records.value: count for records, count in step.items()}
                bar.update(step.total())
    print_values({records.value: removed[records.value] for records in ages}, as_json=as_json)


@click.group()
def hold() -> None:
    """Manage legal holds.

    The records under a hold are neither pruned nor erased.
    """


_integration = click.option("--integration", metavar="NAME", help="All records of this integration.")
_call = click.option("--call", type=click.UUID, metavar="ID", help="One call, by its outcome's id.")


@hold.command("add")
@_integration
@_call
@click.option("--reason", default="", help="The reason, for the record.")
@example("hold add --integration reminders --reason 'case 4711'")
def add_hold(integration: str | None, call: UUID | None, reason: str) -> None:
    """Hold the records of one integration, or one call."""
    kind, subject = _hold_subject(integration, call)
    with opened() as (_, database):
        log_command(database, "hold add", [(kind, subject), ("reason", reason)])
        legal_holds.add_hold(database, kind, subject, reason, datetime.now(UTC))
    say(f"{kind} {subject} is held")


@hold.command("remove")
@_integration
@_call
@example("hold remove --integration reminders")
def remove_hold(integration: str | None, call: UUID | None) -> None:
    """End a hold.

    The next pruning removes the records that are old enough.
    """
    kind, subject = _hold_subject(integration, call)
    with opened() as (_, database):
        log_command(database, "hold remove", [(kind, subject)])
        legal_holds.remove_hold(database, kind, subject)
    say(f"{kind} {subject} is held no longer")


@hold.command("list")
@as_json
@example("hold list")
def list_holds(*, as_json: bool) -> None:
    """List the holds with their reasons."""
    with opened() as (_, database):
        print_rows(legal_holds.list_holds(database), as_json=as_json)


@click.command("erase")
@click.option("--phone", required=True, metavar="NUMBER", help="Like +16175551234.")
@click.option("--dry-run", is_flag=True, help="Remove nothing, only show what would be removed.")
@as_json
@example("erase --phone +16175551234")
def erase_command(phone: str, *, dry_run: bool, as_json: bool) -> None:
    """Remove every call and delivery with a phone number.

    The number is found in any format. Prints a receipt.

    Calls are removed whole. Records under a legal hold stay, and the exit status is 1 then. The analytical copy of
    this host is built anew.
    """
    with opened() as (settings, database):
        schema_version.check(database)
        if not dry_run:
            log_command(database, "erase", [("phone_number", phone)])
        receipt = erase(settings, database, phone, dry_run=dry_run)
    values = asdict(receipt) | {"erased_at": None if dry_run else datetime.now(UTC).isoformat(timespec="seconds")}
    if as_json:
        print_json(values)
    else:
        print_values({name: value for name, value in values.items() if name != "left"}, as_json=False)
        for line in receipt.left:
            say(f"{'left':>16}  {line}")
    if receipt.held:
        raise click.ClickException(f"{receipt.held} are under a legal hold and stay; see: hold list")


def _hold_subject(integration: str | None, call: UUID | None) -> tuple[HoldKind, str]:
    if (integration is None) == (call is None):
        raise click.UsageError("give --integration NAME or --call ID")
    return (HoldKind.INTEGRATION, integration) if integration else (HoldKind.CALL, str(call))

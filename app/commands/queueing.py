"""The commands that call Plum's own APIs: `plum queue`, `bulk-queue`, `status`, `cancel`."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial, reduce
from pathlib import Path
from typing import Any

import click
from werkzeug.datastructures import MultiDict

from app import assembly
from app.analytics.redial import DESTINATION
from app.auditing import log_command
from app.commands.context import opened
from app.config import Settings
from app.errors import StoreError
from app.identity import new_id
from app.model import Delivery, Integration, Via, hashed
from app.outbound import accounts
from app.outbound.queueing import NotToCall, Progress, QueueTarget, bulk_queue, queue
from app.outbound.redialling import Redial, redial
from app.plum.client import ApiError, BulkRequest, CallRequest, Client
from app.public_urls import result_url, start_url
from app.store import do_not_call, schema_version
from app.store.database import Database, questions_database
from app.store.integrations import ActiveKeys, integrations_by_name
from app.store.rows import outcome_values
from app.terminal import as_json, complain, example, pairs_of, print_json, print_values, say
from app.values import storable
from app.web.errors import Invalid
from app.web.filters import MissingSchema, parse
from app.web.registration import window_end
from app.web.result import MAX_REFERENCE
from app.web.schemas import OutcomeSchema


class _Moment(click.ParamType[datetime]):
    """A time as RFC 3339, in UTC if it has no offset, or as Unix seconds."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            return window_end(value)
        except Invalid as error:
            self.fail(error.errors["time"][0], param, ctx)


def _terms(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that all commands that queue calls have in common."""
    options = [
        click.option("--to", metavar="SURVEY/INSTANCE", help="Insight's, or Fuse's APPLICATION/DEPLOYMENT."),
        click.option("--start-url", metavar="URL", help="DEV: URL of the VoiceXML; default is our own /start/KEY."),
        click.option("--start", type=_Moment(), help="Do not dial before: RFC 3339 or Unix seconds."),
        click.option("--end", type=_Moment(), help="Do not dial after."),
        click.option("--max-attempts", type=int, metavar="N"),
        click.option("--reattempt-wait", type=int, metavar="SECONDS", help="Wait between two attempts."),
        click.option("--pci", is_flag=True, help="Fuse: use its secure environment."),
        click.option("--key", metavar="KEY", help="Key of the result_url; or PLUM_RESULT_KEY."),
        click.option("--again", is_flag=True, help="Also queue calls that may have been queued before."),
    ]
    return reduce(lambda decorated, option: option(decorated), reversed(options), command)


@click.command("queue")
@click.argument("integration")
@click.argument("phone")
@click.option("--reference", metavar="R", help="Reference of the call in its result_url; random by default.")
@click.option("--metadata", multiple=True, metavar="NAME=VALUE", help="May be given several times.")
@_terms
@as_json
@example("plum queue reminders 16175551234 --to 12/34 --reference appt-42 --max-attempts 2 --reattempt-wait 600")
def queue_command(
    integration: str,
    phone: str,
    reference: str | None,
    metadata: tuple[str, ...],
    key: str | None,
    *,
    again: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Queue one call and expect its result. If the reference was queued already, nothing is queued again."""
    if reference is not None and not 1 <= len(storable(reference) or "") <= MAX_REFERENCE:
        raise click.UsageError(f"--reference should have 1 to {MAX_REFERENCE} characters")
    if invalid := [pair for pair in metadata if "=" not in pair]:
        raise click.UsageError(f"--metadata {invalid[0]}: write NAME=VALUE")
    reference = storable(reference)
    values = {name: storable(value) or "" for name, _, value in (pair.partition("=") for pair in metadata)}
    with opened() as (settings, database):
        target = _target(settings, database, integration, key)
        request = CallRequest(result_url="", phone=phone, reference=reference, metadata=values, **_given(options))
        log_command(database, "plum queue", [("integration", integration), ("reference", reference or "")])
        queued = queue(database, partial(accounts.connected, settings), target, request, _now, again=again)
    if not queued.is_new:
        complain(f"a call with the reference {queued.reference} was queued before; nothing is queued again")
    ids = {"call_id": queued.call_id, "reference": queued.reference}
    print_values(ids | ({"result_url": queued.result_url} if as_json else {}), as_json=as_json)


@click.command("bulk-queue")
@click.argument("integration")
@click.argument("file", required=False, type=click.Path(dir_okay=False, exists=True, path_type=Path))
@click.option("--batch", required=True, metavar="NAME", help="Batch of the calls in their result_url.")
@click.option(
    "--from", "filters", metavar="FILTERS", help="Instead of FILE: queue the phone numbers of these outcomes."
)
@click.option("--most-attempts", type=click.IntRange(1), help="With --from: leave out numbers with so many attempts.")
@click.option(
    "--dry-run", is_flag=True, help="With --from: queue nothing, show how many numbers are left out, and why."
)
@click.option(
    "--one-by-one", is_flag=True, help="Slower, but each call gets an id, so that its result can be polled."
)
@click.option(
    "--per-second",
    type=click.FloatRange(0, 1000, min_open=True),
    default=accounts.QUEUED_PER_SECOND,
    show_default=True,
    help="With --one-by-one: maximum rate.",
)
@_terms
@as_json
@example("plum bulk-queue reminders --batch spring-2 --from 'batch=spring disposition=no_answer,busy' --to 12/34")
def bulk_queue_command(
    integration: str,
    file: Path | None,
    batch: str,
    filters: str | None,
    most_attempts: int | None,
    per_second: float,
    key: str | None,
    *,
    dry_run: bool,
    one_by_one: bool,
    again: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Queue a contact list, and expect the results.

    The list is a file like Plum's (first header `destination`), or the numbers of outcomes.

    If the command is repeated, it queues only the calls that were not queued before.
    """
    if (file is None) == (filters is None) or (file and (dry_run or most_attempts)):
        raise click.UsageError("give either FILE or --from FILTERS; --dry-run and --most-attempts are for --from")
    with opened() as (settings, database):
        redialled = _redial(settings, database, filters, most_attempts) if filters is not None else None
        if redialled and (dry_run or not redialled.numbers):
            print_values(redialled.counts(), as_json=as_json)
            return
        target = _target(settings, database, integration, key)
        log_command(database, "plum bulk-queue", [("integration", integration), ("batch", batch)])
        content = _contact_list(redialled.numbers) if redialled else (file or Path()).read_bytes()
        terms = BulkRequest(result_url="", name=batch, csv=content, **_given(options))
        connect = partial(accounts.connected, settings, per_second=per_second)
        progress = Progress()
        barred = _barred(database, redialled) if redialled else None
        queue_list = partial(bulk_queue, database, connect, target, terms, _now, progress)
        try:
            queue_list(again=again, one_by_one=one_by_one, not_to_call=barred)
        except (ApiError, StoreError) as error:
            raise click.ClickException(f"{error.detail}; {progress.queued} calls before that are queued") from error
    counts = {"batch": batch, **asdict(progress)} | (redialled.counts() if redialled else {})
    print_values(counts, as_json=as_json)
    if progress.unknown:
        raise click.ClickException(
            f"{progress.unknown} calls of the batch may have been queued before; to queue them now: --again"
        )


@click.command("status")
@click.argument("integration")
@click.argument("call_id")
@click.option("--reveal", is_flag=True, help="Show phone numbers unmasked.")
@as_json
@example("plum status reminders 155761")
def status_command(integration: str, call_id: str, *, reveal: bool, as_json: bool) -> None:
    """Show one call's current status at Plum.

    It is shown as an outcome record; nothing is stored.
    """
    with opened() as (settings, database):
        sender = _integration(database, integration)
        if reveal:
            log_command(database, "plum status --reveal", [("integration", integration), ("call_id", call_id)])
        with _client(settings, sender) as client:
            status = client.status(call_id)
        now = datetime.now(UTC)
        delivery = Delivery(
            new_id(now), integration, now, status.body, sender.product, Via.POLL, content_type=status.content_type
        )
        reading = assembly.reader(settings)(delivery)
    if reading.outcome is None:
        raise click.ClickException(f"what Plum tells of the call cannot be read: {reading.reason}")
    row = {"id": reading.outcome.id} | outcome_values(reading.outcome) | {"call_id": call_id}
    record = OutcomeSchema(reveal=reveal).record(row)
    if as_json:
        print_json(record)
    else:
        print_values({name: value for name, value in record.items() if value not in (None, {}, [])}, as_json=False)


@click.command("cancel")
@click.argument("integration")
@click.option("--to", required=True, metavar="SURVEY/INSTANCE", help="Or Fuse's APPLICATION/DEPLOYMENT.")
@example("plum cancel reminders --to 12/34")
def cancel_command(integration: str, to: str) -> None:
    """Cancel all pending calls; Plum posts a result for each."""
    with opened() as (settings, database):
        sender = _integration(database, integration)
        log_command(database, "plum cancel", [("integration", integration), ("to", to)])
        with _client(settings, sender) as client:
            client.cancel(to)
    say(f"all pending calls of {to} are canceled")


# --- helpers of all commands


def _target(settings: Settings, database: Database, name: str, key: str | None) -> QueueTarget:
    schema_version.check(database)
    integration = _integration(database, name)
    key = key or settings.result_key
    if not key:
        raise click.UsageError("keys are kept hashed, so give that of the result_url: --key KEY or PLUM_RESULT_KEY")
    known = ActiveKeys(database).look(datetime.now(UTC)).get(hashed(key).hex())
    if known is None or known.integration.name != name:
        raise click.UsageError(f"the key opens nothing for {name}; for a new one: integration rotate {name}")
    return QueueTarget(integration, result_url(settings, key), start_url(settings, key), settings.default_region)


def _client(settings: Settings, integration: Integration) -> Client:
    if integration.product is None:
        raise click.UsageError(f"{integration.name} has the product auto; Plum is asked for calls of one product")
    return accounts.connected(settings, integration.product)


def _integration(database: Database, name: str) -> Integration:
    integration = integrations_by_name(database).get(name)
    if integration is None:
        raise click.UsageError(f"no integration is named {name}; see: plum-outcomes integration list")
    return integration


def _now() -> datetime:
    return datetime.now(UTC)


def _given(options: dict[str, Any]) -> dict[str, Any]:
    names = {"reattempt_wait": "reattempt_wait_seconds"}
    return {names.get(name, name): value for name, value in options.items() if value is not None}


def _redial(settings: Settings, database: Database, filters: str, most_attempts: int | None) -> Redial:
    try:
        words = shlex.split(filters)
    except ValueError as error:
        raise click.UsageError(f"--from: {error}") from None
    # Joined by & as in a URL, but not encoded as there: `+` and `%` stand for themselves.
    pairs = pairs_of(tuple(part for word in words for part in re.split(r"&(?=\w+=)", word)))
    if not pairs:
        raise click.UsageError("--from needs a filter, like --from 'batch=spring disposition=busy'")
    question = parse(MultiDict(pairs), MissingSchema.about(OutcomeSchema)).question
    router = assembly.create_query_router(settings, questions_database(settings))
    return redial(router.candidates(question), set(do_not_call.numbers(database)), most_attempts)


def _barred(database: Database, redialled: Redial) -> NotToCall:
    """Return the look-up of numbers that were added to the do-not-call list meanwhile; they count as left out."""

    def look_up(numbers: Collection[str]) -> Collection[str]:
        barred = do_not_call.among(database, numbers)
        redialled.left_out["do_not_call"] += len(barred)
        return barred

    return look_up


def _contact_list(numbers: Sequence[str]) -> bytes:
    return "".join(f"{line}\n" for line in [DESTINATION, *numbers]).encode()

"""The commands for access of senders and analysts: `integration`, `token`."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from typing import BinaryIO

import click

from app.auditing import log_command
from app.commands.context import opened
from app.config import Settings
from app.errors import NotFound
from app.model import Network, Product, Scope, checked_name, networks
from app.public_urls import result_url
from app.store import integrations, tokens
from app.terminal import Duration, as_json, example, harmless_lines, print_json, print_rows, print_values, say


@click.group()
def integration() -> None:
    """Manage the senders, each with its own result_url."""


@integration.command("add")
@click.argument("name")
@click.option(
    "--product",
    type=click.Choice([*(product.value for product in Product), "auto"]),
    default="auto",
    show_default=True,
)
@as_json
@example("integration add reminders --product fuse")
def add_integration(name: str, product: str, *, as_json: bool) -> None:
    """Add an integration and print its result_url.

    The URL is shown only once.
    """
    declared = None if product == "auto" else Product(product)
    with opened() as (settings, database):
        log_command(database, "integration add", [("name", _name(name)), ("product", product)])
        key = integrations.add_integration(database, name, declared, datetime.now(UTC))
    _print_integration(settings, name, declared, key, as_json)


@integration.command("list")
@as_json
@example("integration list")
def list_integrations(*, as_json: bool) -> None:
    """List the integrations.

    Keys are stored hashed and cannot be shown.
    """
    with opened() as (_, database):
        print_rows(integrations.list_integrations(database), as_json=as_json)


@integration.command("rotate")
@click.argument("name")
@click.option("--grace", type=Duration(), default="7d", show_default=True, help="How long the old URL still works.")
@as_json
@example("integration rotate reminders --grace 12h")
def rotate_integration(name: str, grace: timedelta, *, as_json: bool) -> None:
    """Give an integration a new URL."""
    with opened() as (settings, database):
        log_command(database, "integration rotate", [("name", name), ("grace", str(grace))])
        changed, key = integrations.rotate_integration(database, name, grace, datetime.now(UTC))
    _print_integration(settings, name, changed.product, key, as_json)


@integration.command("disable")
@click.argument("name")
@example("integration disable reminders")
def disable_integration(name: str) -> None:
    """Respond 404 under the integration's URLs from now on.

    Its records stay.
    """
    with opened() as (_, database):
        log_command(database, "integration disable", [("name", name)])
        integrations.disable_integration(database, name, datetime.now(UTC))
    say(f"{name} is disabled")


@integration.command("enable")
@click.argument("name")
@example("integration enable reminders")
def enable_integration(name: str) -> None:
    """Accept results again under the integration's URLs.

    URLs that have expired stay invalid.
    """
    with opened() as (_, database):
        log_command(database, "integration enable", [("name", name)])
        integrations.enable_integration(database, name)
    say(f"{name} is enabled")


@integration.command("access")
@click.argument("name")
@click.option("--allow-from", metavar="NETWORKS", help="Who may post: 198.51.100.0/24,203.0.113.7; or any.")
@click.option(
    "--password/--no-password", default=None, help="Make a new password that posts must send, or require none."
)
@as_json
@example("integration access reminders --allow-from 198.51.100.0/24 --password")
def integration_access(name: str, allow_from: str | None, password: bool | None, *, as_json: bool) -> None:
    """Restrict who may post under an integration's keys.

    Only some networks, or only with a password; without options nothing changes.

    Senders use the password by HTTP Basic authentication with NAME as the user: https://NAME:PASSWORD@… in the
    result_url.
    """
    allowed = _networks(allow_from)
    with opened() as (_, database):
        details = [("name", name), ("allow_from", allow_from or ""), ("password", str(password))]
        log_command(database, "integration access", details)
        if allowed is not None:
            integrations.set_allowed_from(database, name, allowed)
        new_password = integrations.set_password(database, name, wanted=password) if password is not None else None
        [row] = [row for row in integrations.list_integrations(database) if row["name"] == name] or [{}]
    if not row:
        raise NotFound(f"no integration is named {name}; see: integration list")
    access = {"name": name, "allowed_from": row["allowed_from"], "password": new_password or row["password"]}
    print_values({key: value or "any" for key, value in access.items()} if not as_json else access, as_json=as_json)


def _networks(text: str | None) -> tuple[Network, ...] | None:
    """Parse --allow-from; return None if it is not given."""
    if text is None:
        return None
    try:
        allowed = networks(text)
    except ValueError:
        allowed = ()
    if not allowed and text != "any":  # an empty text, from a shell variable that is not set, must not allow everyone
        raise click.BadParameter("give networks like 198.51.100.0/24,203.0.113.7, or any")
    return allowed


@integration.command("script")
@click.argument("name")
@click.argument("file", required=False, type=click.File("rb"))
@click.option("--remove", is_flag=True, help="Remove the script; calls are ended in good order again.")
@as_json
@example("integration script reminders welcome.vxml")
def integration_script(name: str, file: BinaryIO | None, *, remove: bool, as_json: bool) -> None:
    """Store or print the VoiceXML that calls get.

    Calls get it at NAME's start_url. FILE - is standard input; without FILE it is printed.

    \b
    In texts and quoted attributes these placeholders stand for the call's values:
      {{ phone_number }}  {{ call_id }}  {{ message_reference }}
      {{ campaign_parameters }}  {{ call_parameters }}
    """
    if file and remove:
        raise click.UsageError("give FILE or --remove, not both")
    script = _checked(file) if file else None
    with opened() as (_, database):
        if not (file or remove):
            _print_script(name, integrations.get_script(database, name), as_json)
            return
        log_command(database, "integration script", [("name", name), ("script", "own" if script else "default")])
        integrations.set_script(database, name, script)
    if as_json:
        _print_script(name, script, as_json)
    else:
        say(f"{name}'s calls hear {'this script' if script else 'the default'} within 5 s")


def _checked(file: BinaryIO) -> str:
    from app import voicexml

    return voicexml.checked(file.read(voicexml.MAX_BYTES + 1))


@click.group()
def token() -> None:
    """Manage the API tokens of analysts."""


@token.command("add")
@click.argument("name")
@click.option("--scope", type=click.Choice([scope.value for scope in Scope]), default="read", show_default=True)
@as_json
@example("token add dashboard --scope read")
def add_token(name: str, scope: str, *, as_json: bool) -> None:
    """Add a token and print it; it is shown only once."""
    with opened() as (_, database):
        log_command(database, "token add", [("name", _name(name)), ("scope", scope)])
        secret = tokens.add_token(database, name, Scope(scope), datetime.now(UTC))
    if as_json:
        print_json({"name": name, "scope": scope, "token": secret})
    else:
        click.echo(secret)


@token.command("list")
@as_json
@example("token list")
def list_tokens(*, as_json: bool) -> None:
    """List the tokens' names, scopes and times of last use.

    The time of last use is right to about a minute.
    """
    with opened() as (_, database):
        print_rows(tokens.list_tokens(database), as_json=as_json)


@token.command("revoke")
@click.argument("name")
@example("token revoke dashboard")
def revoke_token(name: str) -> None:
    """Revoke a token: it gives no access from now on."""
    with opened() as (_, database):
        log_command(database, "token revoke", [("name", name)])
        tokens.revoke_token(database, name, datetime.now(UTC))
    say(f"{name} is revoked")


def _name(name: str) -> str:
    try:
        return checked_name(name)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def _print_integration(settings: Settings, name: str, product: Product | None, key: str, as_json: bool) -> None:
    url = result_url(settings, key)
    if as_json:
        print_json({"name": name, "product": product or "auto", "key": key, "result_url": url})
    else:
        click.echo(url)


def _print_script(name: str, script: str | None, as_json: bool) -> None:
    if as_json:
        print_json({"name": name, "script": script})
    elif script is None:
        click.echo(f"{name} has none; its calls are ended in good order", err=True)
    else:
        click.echo(harmless_lines(script) if sys.stdout.isatty() else script, nl=False)

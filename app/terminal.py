"""Terminal output and input of commands: errors in one line, tables, JSON, durations; no control characters."""

from __future__ import annotations

import io
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from importlib import import_module
from inspect import cleandoc
from typing import Any, NoReturn

import click

from app.errors import PlumError

# Characters that control a terminal or change the order of text: controls, direction marks, line separators.
_CONTROL = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)
_DURATIONS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class OneLine(click.Group):
    """A group whose failures are one line on stderr and exit status 1, or 2 for wrong usage."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")  # the terminal's charset may lack characters
        try:
            result = super().main(*args, **kwargs | {"standalone_mode": False})
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            raise SystemExit(error.exit_code) from None
        except click.UsageError as error:
            help_hint = f"; see: {error.ctx.command_path} --help" if error.ctx else ""
            _fail(f"{error.format_message().rstrip('.')}{help_hint}", error.exit_code)
        except click.ClickException as error:
            _fail(error.format_message(), error.exit_code)
        except PlumError as error:
            _fail(error.detail, 1)
        except click.Abort:
            _fail("interrupted", 130)
        except OSError as error:
            _fail_output(error)
        raise SystemExit(result if isinstance(result, int) else 0)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        finally:
            # Within click, which exits silently if the reader has closed a pipe, as `head` does.
            if sys.stdout:  # None if it was closed at the start
                sys.stdout.flush()


class Lazy(OneLine):
    """A `OneLine` group that imports the module of a command when the command is called."""

    def __init__(self, *args: Any, loaded_from: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._loaded_from = loaded_from

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(self._loaded_from)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._loaded_from:
            return None
        members = vars(import_module(self._loaded_from[cmd_name])).values()
        return next(one for one in members if isinstance(one, click.Command) and one.name == cmd_name)


def _fail(line: str, status: int) -> NoReturn:
    complain(line)
    raise SystemExit(status)


def _fail_output(error: OSError) -> NoReturn:
    """Exit with a message. Buffered output goes to /dev/null, so that flushing at the exit cannot fail again."""
    with suppress(OSError, ValueError, AttributeError):  # stdout may have been closed at the start
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    _fail(f"{error.filename or 'the output'} cannot be used: {error.strerror or error}", 1)


def complain(line: str) -> None:
    """Print one line on stderr."""
    click.echo(f"plum-outcomes: {harmless(line)}", err=True)


def say(line: str) -> None:
    click.echo(harmless(line))


def harmless(text: str) -> str:
    """Escape control characters as JSON does, so that JSON keeps its meaning."""
    return _CONTROL.sub(lambda match: json.dumps(match[0])[1:-1], text)


def harmless_lines(text: str) -> str:
    return "\n".join(map(harmless, text.replace("\r\n", "\n").split("\n")))


class FilterCommand(click.Command):
    """A command with filters as `name=value`, `--name value` or `--name=value`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own = {option for param in self.get_params(ctx) for option in param.opts}
        return super().parse_args(ctx, list(self._filters(ctx, own, iter(args))))

    def _filters(self, ctx: click.Context, own: set[str], args: Iterator[str]) -> Iterator[str]:
        for arg in args:
            name, equals, value = arg.partition("=")
            if not name.startswith("--") or name == "--" or name in own:
                yield arg
                continue
            text = value if equals else next(args, None)
            if text is None:
                raise click.UsageError(f"{name} needs a value", ctx)
            yield f"{name.removeprefix('--').replace('-', '_')}={text}"


def pairs_of(filters: tuple[str, ...]) -> list[tuple[str, str]]:
    """Parse filters `FIELD=VALUE` into pairs, like those of a query string."""
    parts = [text.partition("=") for text in filters]
    if wrong := [name for name, equals, _ in parts if not equals]:
        raise click.UsageError(f"{wrong[0]} is no filter; write FIELD=VALUE")
    return [(name, value) for name, _, value in parts]


class Duration(click.ParamType[timedelta]):
    """A duration like `7d`, `12h`, `30m`, `45s`."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        if isinstance(value, timedelta):
            return value
        match = re.fullmatch(r"(\d{1,5})([smhd])", value)
        if match is None:
            self.fail(f"{value!r} is no duration; use one like 7d, 12h, 30m or 45s", param, ctx)
        return timedelta(**{_DURATIONS[match[2]]: int(match[1])})


def example(text: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add an example to the command's help."""

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        command.__doc__ = f"{cleandoc(command.__doc__ or '')}\n\n\b\nExample:\n  plum-outcomes {text}"
        return command

    return decorate


as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def print_json(value: Any) -> None:
    """Print JSON; in ASCII if the terminal's charset is not Unicode."""
    is_unicode = sys.stdout.encoding.lower().startswith("utf")
    say(json.dumps(value, ensure_ascii=not is_unicode, default=str))


def print_rows(rows: list[dict[str, Any]], *, as_json: bool) -> None:
    """Print a table, or JSON."""
    if as_json:
        print_json([{name: _shown(value) for name, value in row.items()} for row in rows])
        return
    if not rows:
        click.echo("none", err=True)
        return
    cells = [list(rows[0]), *([_text(value) for value in row.values()] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for line in cells:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _shown(value: Any) -> Any:
    return value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else value


def _text(value: Any) -> str:
    return "" if value is None else harmless(str(_shown(value)))


def print_values(values: dict[str, Any], *, as_json: bool) -> None:
    """Print names and values, one pair a line, or JSON."""
    if as_json:
        print_json(values)
        return
    for name, value in values.items():
        say(f"{name:>16}  {value if value != {} else 'none'}")

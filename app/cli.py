"""The command line: `plum-outcomes`. Every command exits with 0 only on success; errors are one line on stderr.

A command's module is imported when it is called, since loading all of them takes longer than most commands run.
"""

from __future__ import annotations

import os

import click

from app.garbage_collection import collect_rarely
from app.terminal import Lazy

COMMANDS = {
    "serve": ("serve", "migrate"),
    "background": ("housekeeping", "analytics"),
    "doctor": ("doctor",),
    "access": ("integration", "token"),
    "queries": ("outcomes", "deliveries", "summary", "audit", "drift"),
    "plum": ("plum",),
    "missing": ("missing", "reconcile"),
    "export": ("export",),
    "importing": ("import",),
    "reprocess": ("reprocess",),
    "simulate": ("simulate",),
    "spool": ("spool",),
    "refused": ("refused",),
    "retention": ("prune", "hold", "erase"),
    "backup": ("backup",),
}
LOADED_FROM = {name: f"app.commands.{module}" for module, names in COMMANDS.items() for name in names}


@click.group(cls=Lazy, loaded_from=LOADED_FROM, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="plum-outcomes")
def main() -> None:
    """Receives Plum Voice call results, keeps them, and answers questions about them."""
    os.umask(0o077)  # the files contain phone numbers
    collect_rarely()


if __name__ == "__main__":
    main()

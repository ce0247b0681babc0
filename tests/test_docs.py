"""What the documents promise is there, and what is there is documented."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from prometheus_client import REGISTRY

from app import cli, metrics
from app.config import PREFIX, Settings

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()


def commands(group: click.Group, path: str = "") -> dict[str, click.Command]:
    found: dict[str, click.Command] = {}
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command
        if isinstance(command, click.Group):
            found |= commands(command, f"{path}{name} ")
        else:
            found[f"{path}{name}"] = command
    return found


@pytest.mark.parametrize("setting", [PREFIX + one.name.upper() for one in fields(Settings)])
def test_every_setting_is_in_the_readme(setting) -> None:
    assert f"`{setting}`" in README


def test_every_metric_is_in_the_runbook_and_no_other() -> None:
    ours = {
        metric.name + ("_total" if metric.type == "counter" else "")
        for metric in REGISTRY.collect()
        if metric.name.startswith("plum_") and not metric.name.endswith("_created")
    }
    assert metrics.DELIVERIES is not None
    assert set(re.findall(r"^\| `(plum_\w+)`", OPERATIONS, re.M)) == ours


@pytest.mark.parametrize("name", commands(cli.main))
def test_every_command_has_help_with_an_example(name) -> None:
    command = commands(cli.main)[name]
    assert command.help
    assert f"plum-outcomes {name}" in command.help


@pytest.mark.parametrize("group", sorted({name.rpartition(" ")[0] for name in commands(cli.main)}))
def test_a_list_of_commands_says_whole_what_each_does(group) -> None:
    [*_, listed] = CliRunner().invoke(cli.main, [*group.split(), "--help"]).output.partition("Commands:")
    assert listed
    assert "..." not in listed


def test_every_document_that_the_readme_names_is_there() -> None:
    for link in re.findall(r"\]\((?!http)([^)]+)\)", README):
        assert (ROOT / link).exists(), link


@pytest.mark.parametrize(
    "document", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda one: one.name
)
def test_every_module_that_a_document_names_is_there(document: Path) -> None:
    for named in re.findall(r"\b[a-z_]+(?:/[a-z_]+)*/[a-z_]+\.py\b", document.read_text()):
        assert (ROOT / named).exists() or (ROOT / "app" / named).exists(), named


@pytest.mark.parametrize(
    "document", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda one: one.name
)
def test_every_file_to_deploy_that_a_document_names_is_there(document: Path) -> None:
    for named in re.findall(r"\bdeploy/[\w./-]*\w", document.read_text()):
        assert (ROOT / named).exists(), named


def test_every_make_target_has_a_line_of_help() -> None:
    makefile = (ROOT / "Makefile").read_text()
    targets = re.search(r"^\.PHONY: (.+)$", makefile, re.M)
    assert targets
    for target in targets[1].split():
        assert re.search(rf"^{target}:.*## \S", makefile, re.M), target


def test_pins_name_no_host() -> None:
    for file in ROOT.glob("constraints*.txt"):
        assert not re.search(r"https?://|index-url|find-links|--trusted", file.read_text())

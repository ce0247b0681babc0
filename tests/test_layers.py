"""A module imports lower layers, never higher ones nor neighbours; a new module has to be placed here first."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "app"

# Highest first. Parts on one line are strangers to one another.
LAYERS = [
    ["cli"],
    ["commands"],
    ["factory"],
    ["doctor", "serving", "exporting"],
    ["auditing"],
    ["web", "housekeeping", "roller"],
    ["intake", "store", "plum"],
    ["interpret", "drift"],
    ["normalise", "products"],
    ["values", "exports"],
    ["metrics", "config", "logs"],
    ["terminal", "pace"],
    ["model", "errors"],
]

# Outside dependencies, and the parts that alone may import them.
OWNERS = {
    "flask": {"web", "factory"},
    "werkzeug": {"web", "commands", "exporting"},
    "marshmallow": {"web"},
    "flask_smorest": {"web"},
    "apispec": {"web"},
    "webargs": {"web"},
    "sqlalchemy": {"store"},
    "alembic": {"store"},
    "psycopg": {"store"},
    "prometheus_client": {"metrics"},
    "phonenumbers": {"values", "config", "web"},
    "defusedxml": {"products"},
    "click": {"cli", "commands", "terminal"},
    "gunicorn": set(),
    "gevent": {"store"},
    "pyarrow": {"exports"},
}

MODULES = sorted(ROOT.rglob("*.py"))


def part(module: Path) -> str:
    return module.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(module: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def level(name: str) -> int:
    return next(at for at, names in enumerate(LAYERS) if name in names)


def test_every_module_has_its_layer() -> None:
    placed = {name for names in LAYERS for name in names} | {"__init__"}
    assert {part(module) for module in MODULES} == placed


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_lower_layers(module: Path) -> None:
    own = part(module)
    for name in imports(module):
        if name.startswith("app."):
            other = name.split(".")[1]
            assert own == other or level(own) < level(other), f"{own} imports {name}"


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_an_outside_dependency_is_imported_by_its_part_alone(module: Path) -> None:
    for name in imports(module):
        owners = OWNERS.get(name.split(".")[0])
        assert owners is None or part(module) in owners, f"{part(module)} imports {name}"


def test_the_simulator_knows_nothing_of_ours() -> None:
    for module in (ROOT / "plum").glob("*.py"):
        ours = {name for name in imports(module) if name.startswith("app.") and not name.startswith("app.plum")}
        assert ours == set()


def test_system_tests_know_nothing_of_ours() -> None:
    for module in (Path(__file__).parent / "system").glob("*.py"):
        assert not {name for name in imports(module) if name.split(".")[0] == "app"}

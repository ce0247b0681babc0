"""A module imports lower layers, never higher ones nor neighbours; a new module has to be placed here first."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "app"
STORE_ROOT = ROOT / "store"

# Highest first. Parts on one line are strangers to one another.
LAYERS = [
    ["cli"],
    ["commands"],
    ["exporting"],
    ["factory"],
    ["doctor"],
    ["startup"],
    ["auditing"],
    ["web", "assembly"],
    ["housekeeping"],
    ["outbound", "pruning", "erasing"],
    ["query_router"],
    ["analytics"],
    ["intake", "store", "plum"],
    ["interpret", "voicexml", "call_matching", "counting", "masking"],
    ["normalise", "products"],
    ["values", "exports", "identity", "public_urls"],
    ["metrics", "config", "logs"],
    ["terminal", "cooperative", "garbage_collection", "metric_memory", "gunicorn_worker"],
    ["model", "errors"],
]

# Within the store, likewise.
STORE = [
    ["pagination", "quarantine", "records", "csv_rows", "reprocess", "retention", "erasure", "backup"],
    ["readings", "removal", "migrating"],
    ["missing"],
    ["expected"],
    [
        "journal",
        "integrations",
        "tokens",
        "audit",
        "do_not_call",
        "schema_version",
        "legal_holds",
        "saved_views",
    ],
    ["bulk", "row_sizes", "scan"],
    ["query", "rows"],
    ["database", "schema"],
    ["failures", "postgresql", "sqlite"],
    ["timeouts", "types"],
]

# Outside dependencies, and the parts that alone may import them.
OWNERS = {
    "flask": {"web", "factory", "plum"},
    "werkzeug": {"web", "commands", "exporting", "plum"},
    "marshmallow": {"web"},
    "pygal": {"web"},
    "flask_smorest": {"web"},
    "apispec": {"web"},
    "webargs": {"web"},
    "sqlalchemy": {"store", "analytics"},
    "duckdb": {"analytics"},
    "alembic": {"store"},
    "psycopg": {"store"},
    "prometheus_client": {"metrics", "metric_memory"},
    "phonenumbers": {"values", "config"},
    "defusedxml": {"products", "plum", "voicexml"},
    "httpx": {"plum"},
    "brotli": {"products"},
    "click": {"cli", "commands", "terminal"},
    "gunicorn": {"gunicorn_worker"},
    "gevent": {"cooperative", "gunicorn_worker"},
}

MODULES = sorted(ROOT.rglob("*.py"))
STORE_MODULES = [
    module for module in MODULES if module.is_relative_to(STORE_ROOT) and "migrations" not in module.parts
]


def part(module: Path, of: Path = ROOT) -> str:
    return module.relative_to(of).parts[0].removesuffix(".py")


def parts(of: Path) -> set[str]:
    return {part(module, of) for module in of.rglob("*.py")} - {"__init__"}


@cache
def imports(module: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def level(name: str, layers: list[list[str]] = LAYERS) -> int:
    return next(at for at, names in enumerate(layers) if name in names)


@pytest.mark.parametrize(
    ("modules", "layers"), [(parts(ROOT), LAYERS), (parts(STORE_ROOT) - {"migrations"}, STORE)], ids=["app", "store"]
)
def test_every_module_has_its_layer(modules: set[str], layers: list[list[str]]) -> None:
    assert modules == {name for names in layers for name in names}


def test_a_module_imports_only_lower_layers() -> None:
    assert imported_wrongly(MODULES, "app.", LAYERS) == []


def test_a_module_of_the_store_imports_only_lower_layers_of_it() -> None:
    assert imported_wrongly(STORE_MODULES, "app.store.", STORE) == []


def imported_wrongly(modules: list[Path], package: str, layers: list[list[str]]) -> list[str]:
    """Imports from the same layer or a higher one, but for those within a part."""
    root, place = (STORE_ROOT, 2) if package == "app.store." else (ROOT, 1)
    return [
        f"{module.relative_to(ROOT)} imports {name}"
        for module in modules
        for name in imports(module)
        if name.startswith(package)
        and part(module, root) != (other := name.split(".")[place])
        and level(part(module, root), layers) >= level(other, layers)
    ]


def test_an_outside_dependency_is_imported_by_its_part_alone() -> None:
    assert [
        f"{module.relative_to(ROOT)} imports {name}"
        for module in MODULES
        for name in imports(module)
        if part(module) not in OWNERS.get(name.split(".")[0], {part(module)})
    ] == []


def test_the_simulator_imports_nothing_of_the_application() -> None:
    modules = list((ROOT / "plum" / "simulator").glob("*.py"))
    assert modules
    for module in modules:
        foreign = {name for name in imports(module) if name.split(".")[0] == "app"}
        assert {name for name in foreign if not name.startswith("app.plum.simulator.")} == set()


def test_the_client_of_plums_apis_knows_nothing_of_the_simulator() -> None:
    for module in (ROOT / "plum" / "client").glob("*.py"):
        assert not {name for name in imports(module) if name.startswith("app.plum.simulator")}


def test_system_tests_import_nothing_of_the_application() -> None:
    for module in (Path(__file__).parent / "system").glob("*.py"):
        assert not {name for name in imports(module) if name.split(".")[0] == "app"}

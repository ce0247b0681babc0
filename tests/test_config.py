"""A wrong or unknown setting stops the start with one clear line."""

from __future__ import annotations

from dataclasses import fields

import pytest

from app.config import Settings, from_environment
from app.errors import ConfigError


def test_defaults_are_the_contracts() -> None:
    settings = from_environment({"PATH": "/bin"})
    assert settings.database_url == "sqlite:///var/outcomes.db"
    assert (settings.max_body_bytes, settings.default_region) == (1048576, "US")
    assert settings.roles == {"receiver", "analyst", "metrics"}


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PLUM_DATABASE", "x"),
        ("PLUM_MAX_BODY_BYTES", "0"),
        ("PLUM_MAX_BODY_BYTES", "1e6"),
        ("PLUM_MAX_BODY_BYTES", "٣"),
        ("PLUM_PUBLIC_URL", "calls.example.com"),
        ("PLUM_PUBLIC_URL", "http://[x"),
        ("PLUM_PUBLIC_URL", "https://h:99999/x"),
        ("PLUM_MAX_BODY_BYTES", "9" * 5000),
        ("PLUM_ROLES", "receiver,anyone"),
        ("PLUM_TRUSTED_PROXIES", "10.0.0.0/99"),
        ("PLUM_RETAIN_OUTCOMES_DAYS", "-1"),
        ("PLUM_DEFAULT_REGION", "usa"),
        ("PLUM_LOG_FORMAT", "xml"),
        ("PLUM_DATABASE_URL_FILE", "/nowhere/at/all"),
    ],
)
def test_a_wrong_setting_is_named_in_one_line(variable, value) -> None:
    with pytest.raises(ConfigError, match=variable.removesuffix("_FILE")) as refusal:
        from_environment({variable: value})
    assert "\n" not in str(refusal.value)
    assert "Invalid IPv6" not in str(refusal.value)
    assert len(str(refusal.value)) < 400


def test_a_setting_can_come_from_a_file(tmp_path) -> None:
    secret = tmp_path / "url"
    secret.write_text("postgresql+psycopg://plum:secret@db/plum\n")
    settings = from_environment({"PLUM_DATABASE_URL_FILE": str(secret)})
    assert settings.database_url == "postgresql+psycopg://plum:secret@db/plum"


def test_a_setting_given_twice_is_refused(tmp_path) -> None:
    with pytest.raises(ConfigError, match="both set"):
        from_environment({"PLUM_DEFAULT_REGION": "US", "PLUM_DEFAULT_REGION_FILE": str(tmp_path)})


def test_every_setting_has_its_doc() -> None:
    assert all(one.metadata["doc"] for one in fields(Settings))

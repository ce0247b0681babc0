"""A wrong or unknown setting stops the start with one clear line."""

from __future__ import annotations

from dataclasses import fields

import pytest

from app.config import MAX_HELD_BYTES, Settings, from_environment
from app.errors import ConfigError


def test_defaults_are_the_contracts() -> None:
    settings = from_environment({"PATH": "/bin"})
    assert settings.database_url == "sqlite:///var/outcomes.db"
    assert (settings.max_body_bytes, settings.default_region) == (1048576, "US")
    assert settings.roles == {"receiver", "analyst", "metrics"}


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("PLUM_DATABASE", "x", "PLUM_DATABASE_URL"),
        ("PLUM_MAX_BODY_BYTES", "0", "1 to 67108864"),
        ("PLUM_MAX_BODY_BYTES", "1e6", "1 to 67108864"),
        ("PLUM_MAX_BODY_BYTES", "1MB", "1 to 67108864"),
        ("PLUM_MAX_BODY_BYTES", "٣", "1 to 67108864"),
        ("PLUM_PUBLIC_URL", "calls.example.com", "https://"),
        ("PLUM_PUBLIC_URL", "http://[x", "https://"),
        ("PLUM_PUBLIC_URL", "https://h:99999/x", "https://"),
        ("PLUM_MAX_BODY_BYTES", "9" * 5000, "1 to 67108864"),
        ("PLUM_ROLES", "receiver,anyone", "analyst"),
        ("PLUM_TRUSTED_PROXIES", "10.0.0.0/99", "10.0.0.0/8"),
        ("PLUM_TRUSTED_PROXIES", "proxy", "10.0.0.0/8"),
        ("PLUM_RETAIN_OUTCOMES_DAYS", "-1", "1 to 36500"),
        ("PLUM_RETAIN_OUTCOMES_DAYS", "9" * 5000, "1 to 36500"),
        ("PLUM_RETAIN_DELIVERIES_DAYS", "0", "1 to 36500"),
        ("PLUM_RETAIN_AUDIT_DAYS", "30d", "1 to 36500"),
        ("PLUM_MAX_BODY_BYTES", "67108865", "67108864"),
        ("PLUM_OUTCOMES_PORT", "8000", ""),
        ("PLUM_OUTCOMES_PORT", "//10.0.0.1:8000", ""),
        ("PLUM_OUTCOMES_PORT_TCP", "tcp://10.0.0.1:8000", ""),
        ("PLUM_OUTCOMES_PORT_8000_TCP_HOST", "10.0.0.1", ""),
        ("PLUM_SERVICE", "10.0.0.1", ""),
        ("PLUM_PORT_", "tcp://10.0.0.1:8000", ""),
        ("PLUM_DATABASE_HOST", "10.0.0.1", ""),
        ("PLUM_DEFAULT_REGION", "usa", "US"),
        ("PLUM_LOG_FORMAT", "xml", "json"),
        ("PLUM_DATABASE_URL_FILE", "/nowhere/at/all", ""),
        ("PLUM_SPOOL_DIR_FILE_FILE", "x", ""),
    ],
)
def test_a_wrong_setting_is_named_in_one_line_with_what_is_allowed(variable, value, says) -> None:
    name = variable if variable.endswith("_FILE_FILE") else variable.removesuffix("_FILE")
    with pytest.raises(ConfigError, match=f"{name}.*{says}") as refusal:
        from_environment({variable: value})
    assert "\n" not in str(refusal.value)
    assert "Invalid IPv6" not in str(refusal.value)
    assert len(str(refusal.value)) < 400


@pytest.mark.parametrize("service", ["PLUM", "PLUM_OUTCOMES", "PLUM_OUTCOMES_2", "PLUM_DATABASE_URL"])
def test_kubernetes_service_variables_are_ignored(service) -> None:
    links = {
        f"{service}_SERVICE_HOST": "10.96.0.7",
        f"{service}_SERVICE_PORT": "9000",
        f"{service}_SERVICE_PORT_HTTP": "9000",
        f"{service}_SERVICE_PORT_HTTP_METRICS_2": "9001",
        f"{service}_PORT": "tcp://10.96.0.7:9000",
        f"{service}_PORT_9000_TCP": "tcp://10.96.0.7:9000",
        f"{service}_PORT_9000_TCP_PROTO": "tcp",
        f"{service}_PORT_9000_TCP_PORT": "9000",
        f"{service}_PORT_9000_TCP_ADDR": "10.96.0.7",
        f"{service}_PORT_53_UDP": "udp://10.96.0.7:53",
        f"{service}_PORT_53_UDP_PROTO": "udp",
    }
    assert from_environment(links) == from_environment({})


def test_a_body_may_be_as_large_as_the_limit_of_a_process() -> None:
    assert from_environment({"PLUM_MAX_BODY_BYTES": str(MAX_HELD_BYTES)}).max_body_bytes == MAX_HELD_BYTES


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

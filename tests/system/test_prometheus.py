"""A real Prometheus scrapes the service, evaluates the rules as deployed, and answers the dashboard's questions."""

from __future__ import annotations

import json
import math
import shutil
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest

from tests.conftest import free_port, skip_or_fail, wait_until
from tests.system.conftest import ROOT, Sender, Service, dev_body

DEPLOY = ROOT / "deploy"
EXPRESSIONS = [
    target["expr"]
    for panel in json.loads((DEPLOY / "grafana" / "dashboard.json").read_text())["panels"]
    for target in panel["targets"]
]
PATIENCE_SECONDS = 30


@dataclass
class Prometheus:
    url: str

    def get(self, path: str, **parameters: str) -> Any:
        with urlopen(f"{self.url}/api/v1/{path}?{urlencode(parameters)}", timeout=10) as answer:
            told = json.load(answer)
        assert told["status"] == "success"
        return told["data"]

    def values(self, expression: str) -> list[float]:
        """What there is of it now; NaN is nothing."""
        found = self.get("query", query=expression.replace("$__rate_interval", "30s"))["result"]
        return [value for one in found if not math.isnan(value := float(one["value"][1]))]


@pytest.fixture(scope="module")
def scraped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sender]:
    directory = tmp_path_factory.mktemp("scraped")
    service = Service(f"sqlite:///{directory / 'outcomes.db'}", directory, worker_count=1).prepare()
    service.start()
    try:
        yield service.one
    finally:
        service.stop()


@pytest.fixture(scope="module")
def prometheus(scraped: Sender, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """As deployed, but that it scrapes this service, each second."""
    binary = shutil.which("prometheus")
    if binary is None:
        skip_or_fail("prometheus is not here; install it: apt-get install prometheus")
    directory = tmp_path_factory.mktemp("prometheus")
    shutil.copy(DEPLOY / "prometheus" / "alerts.yml", directory)
    deployed = (DEPLOY / "prometheus" / "prometheus.yml").read_text()
    assert "127.0.0.1:8000" in deployed
    ours = deployed.replace("127.0.0.1:8000", f"127.0.0.1:{scraped.service.port}").replace(": 15s", ": 1s")
    (directory / "prometheus.yml").write_text(ours)
    made = Prometheus(f"http://127.0.0.1:{free_port()}")
    command = [str(binary), "--config.file=prometheus.yml", "--storage.tsdb.path=data", "--log.level=warn"]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, f"--web.listen-address={made.url.removeprefix('http://')}"],
            cwd=directory, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        wait_until(lambda: (directory / "data").exists() and is_ready(made), PATIENCE_SECONDS)
        yield made
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(PATIENCE_SECONDS)


def is_ready(prometheus: Prometheus) -> bool:
    try:
        return bool(prometheus.get("targets")["activeTargets"])
    except OSError:
        return False


def test_prometheus_finds_the_service_up_and_its_series_arrive(scraped: Sender, prometheus: Prometheus) -> None:
    wait_until(lambda: prometheus.values('up{job="plum-outcomes"}') == [1], PATIENCE_SECONDS)
    [target] = prometheus.get("targets")["activeTargets"]
    assert (target["health"], target["lastError"]) == ("up", "")
    before = prometheus.values("sum(plum_deliveries_total)")
    scraped.assert_accepted(dev_body(call_id="seen"))
    wait_until(lambda: prometheus.values("sum(plum_deliveries_total)") == [before[0] + 1], PATIENCE_SECONDS)
    assert prometheus.values('plum_deliveries_total{integration="one",verdict="applied"}') == [1]
    assert prometheus.values('plum_deliveries_total{integration="one",verdict="duplicate"}') == [0]


def test_prometheus_evaluates_every_rule(scraped: Sender, prometheus: Prometheus) -> None:
    def healths() -> list[tuple[str, str]]:
        groups = prometheus.get("rules")["groups"]
        return [(rule["health"], rule.get("lastError", "")) for group in groups for rule in group["rules"]]

    wait_until(lambda: "unknown" not in dict(healths()), PATIENCE_SECONDS)
    assert set(healths()) == {("ok", "")}


def test_each_question_of_the_dashboard_is_answered(scraped: Sender, prometheus: Prometheus) -> None:
    unanswered = set(EXPRESSIONS)
    number = iter(range(1000))

    def ask() -> bool:
        scraped.assert_accepted(dev_body(call_id=f"call-{next(number)}"))
        unanswered.difference_update([one for one in unanswered if prometheus.values(one)])
        return not unanswered

    wait_until(ask, PATIENCE_SECONDS)
    assert unanswered == set()

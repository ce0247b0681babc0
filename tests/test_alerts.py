"""The rules for alerts do what they say, and each has its section of the runbook. Judged by the real promtool."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from app import metrics
from tests.conftest import skip_or_fail

ROOT = Path(__file__).parent.parent
PROMETHEUS = ROOT / "deploy" / "prometheus"
ALERTS = (PROMETHEUS / "alerts.yml").read_text()
NAMES = re.findall(r"- alert: (\w+)", ALERTS)
STORIES = sorted(PROMETHEUS.glob("*-test.yml"))


def promtool(*arguments: str) -> str:
    found = shutil.which("promtool")
    if found is None:
        skip_or_fail("promtool is not here; install it: apt-get install prometheus")
    done = subprocess.run(
        [str(found), *arguments], cwd=PROMETHEUS, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("configuration", ["prometheus.yml", "compose.yml"])
def test_promtool_finds_no_fault_with_the_configuration_and_its_rules(configuration: str) -> None:
    assert "SUCCESS" in promtool("check", "config", "--lint-fatal", configuration)


@pytest.mark.parametrize("stories", STORIES, ids=lambda one: one.stem)
def test_each_alert_fires_when_it_should_and_only_then(stories: Path) -> None:
    assert "SUCCESS" in promtool("test", "rules", stories.name)


def test_each_alert_has_a_story_in_which_it_fires() -> None:
    told = "".join(one.read_text() for one in STORIES)
    assert [name for name in NAMES if f'alertname="{name}"' not in told] == []


def test_each_alert_has_its_section_of_the_runbook_and_each_section_its_alert() -> None:
    runbook = (ROOT / "docs" / "runbook.md").read_text()
    assert sorted(re.findall(r"^## (\w+)$", runbook, re.M)) == sorted(NAMES)
    anchors = re.findall(r"runbook: docs/runbook.md#(\w+)", ALERTS)
    assert anchors == [name.lower() for name in NAMES]


@pytest.mark.parametrize("file", ["prometheus/alerts.yml", "grafana/dashboard.json"])
def test_alerts_and_dashboard_ask_for_metrics_that_there_are(file: str) -> None:
    assert metrics.DELIVERIES is not None
    ours = {sample for metric in REGISTRY.collect() for sample in (metric.name, f"{metric.name}_total")}
    named = set(re.findall(r"\bplum_[a-z_]+", (ROOT / "deploy" / file).read_text()))
    assert {re.sub(r"_(bucket|count|sum)$", "", name) for name in named} <= ours

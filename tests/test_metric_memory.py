"""Metrics in memory that processes share: bounded, and no fault of it reaches who counts."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from app import metric_memory

ROOT = Path(__file__).parent.parent
# The memory has to be there before the first metric is made, so each story has a process of its own.
BEGIN = """
from app import metric_memory
metric_memory.create(places=3)
metric_memory.join(metric_memory.take_place())
from app import metrics
"""


def told(story: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + story], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout


def test_a_full_memory_keeps_its_values_and_raises_no_error() -> None:
    text = told("""
metrics.PROBES.inc()
for turn in range(2):
    for number in range(6000):
        metrics.DELIVERIES.labels(f"integration-{number}", "dev", "applied").inc()
metrics.PROBES.inc()
print(metrics.exposition().decode())
""")
    counts = re.findall(r'^plum_deliveries_total\{integration="(integration-\d+)".*\} (\S+)$', text, re.M)
    assert 3000 < len(counts) < 6000
    assert {count for _, count in counts} == {"2.0"}
    assert "plum_probes_total 2.0" in text
    ratio = re.search(r"^plum_metrics_memory_ratio (\S+)$", text, re.M)
    assert ratio
    assert 0.999 < float(ratio[1]) <= 1


def test_counters_survive_1000_processes_and_ended_ones_drop_from_gauges() -> None:
    text = told("""
import os
metrics.CONNECTIONS.labels("deliveries").set(1)
size = 0
for number in range(1000):
    place = metric_memory.take_place()
    child = os.fork()
    if not child:
        metric_memory.join(place)
        from prometheus_client import CollectorRegistry, Counter, Gauge
        Counter("plum_probes", metrics.PROBES._documentation, registry=CollectorRegistry()).inc()
        Gauge("plum_store_connections", metrics.CONNECTIONS._documentation, ["pool"], multiprocess_mode="livesum",
            registry=CollectorRegistry()).labels("deliveries").set(1)
        os._exit(0)
    os.waitpid(child, 0)
    metric_memory.leave(place)
    size = size or len(metrics.exposition())
print(metrics.exposition().decode(), len(metrics.exposition()) - size, len(metric_memory.descriptors()))
""")
    assert "plum_probes_total 1000.0" in text
    assert 'plum_store_connections{pool="deliveries"} 1.0' in text
    grown, files = text.split()[-2:]
    assert int(grown) < 10, "but for the counter's own digits"
    assert int(files) == 3 * len(metric_memory.KINDS)

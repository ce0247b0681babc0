"""The metrics of a service's processes, in shared memory instead of a directory.

The client library shares metrics through files that each process maps, one for each kind of metric. If a file on disk
is deleted or truncated, or its disk is full, the process that maps it dies. Here the files are memory of the service
(memfd_create(2), of sealed size) and vanish with its last process.

Each process writes to a slot of its own, and a process that replaces another continues in the other's slot. So
counters never go back, however many workers come and go, and a scrape always reads the same few files.

A file never grows, since growing can fail: a series that does not fit is counted but not shown. A series takes some
250 bytes, so a file holds some 4,000. https://prometheus.github.io/client_python/multiprocess/
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from typing import Any

from prometheus_client import multiprocess, values
from prometheus_client.metrics_core import Metric
from prometheus_client.mmap_dict import MmapedDict, _read_all_values
from prometheus_client.multiprocess import MultiProcessCollector

LIVE = ("gauge_livemax", "gauge_livesum")  # values of living processes only
KINDS = ("counter", "histogram", "gauge_mostrecent", *LIVE)
FILE_BYTES = 1 << 20  # allocated page by page when it is used
VARIABLE = "METRICS_IN_MEMORY"

_VALUE_BYTES = 16
_ROOM = FILE_BYTES - _VALUE_BYTES  # behind it is one value that all series without room share
_ENTRY_BYTES = 4 + 8 + _VALUE_BYTES  # besides the key: its length, padding, the value

log = logging.getLogger(__name__)

_files: dict[str, int] = {}  # the library's name of a file → descriptor
_free_places: list[int] = []


def create(places: int) -> None:
    """Create the files of so many processes; forked processes inherit them."""
    _free_places.extend(range(places))
    for place in range(places):
        for kind in KINDS:
            _files[_name(kind, place)] = _memory(_name(kind, place))


def take_place() -> int | None:
    """Take the slot for another process; None if none is free, so that its metrics are not shared."""
    return _free_places.pop(0) if _free_places else None


def for_child(place: int) -> dict[str, str]:
    """Return the environment for a process that is started, not forked. It has to inherit `descriptors`."""
    return {VARIABLE: json.dumps([place, _files])}


def descriptors() -> list[int]:
    return list(_files.values())


def join(place: int) -> None:
    """Write to this slot from now on. Call it before the first metric is created."""
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = ""  # the library puts it before a file's name
    values.MmapedDict = _InMemory  # type: ignore[attr-defined]
    values.ValueClass = values.MultiProcessValue(lambda: place)  # type: ignore[no-untyped-call]


def join_as_child() -> None:
    """Join in a process whose environment is from `for_child`; do nothing in any other."""
    if VARIABLE in os.environ:
        place, files = json.loads(os.environ[VARIABLE])
        _files.update(files)
        join(place)


def leave(place: int) -> None:
    """Free the slot of a process that has ended. The next process in it continues its counters."""
    _free_places.insert(0, place)
    for kind in LIVE:
        os.pwrite(_files[_name(kind, place)], bytes(8), 0)


def is_shared() -> bool:
    return bool(_files)


def fullest() -> float:
    """Return how full the fullest file is, 0 to 1."""
    return max(map(_used, _files.values()), default=0) / _ROOM


class Collector:
    """Collects the metrics of all processes."""

    def collect(self) -> Iterator[Metric]:
        multiprocess.MmapedDict = _InMemory  # type: ignore[attr-defined]
        merged: Iterator[Metric] = MultiProcessCollector.merge(sorted(_files))  # type: ignore[no-untyped-call]
        return merged


class _InMemory(MmapedDict):
    """One of the files in memory, by its name."""

    _is_full = False

    def __init__(self, filename: str, read_mode: bool = False) -> None:
        super().__init__(os.dup(_files[filename]), read_mode)  # type: ignore[no-untyped-call]

    @staticmethod
    def read_all_values_from_file(filename: str) -> Any:
        file = _files[filename]
        used = _used(file)
        return _read_all_values(os.pread(file, used, 0), used) if used else ()  # type: ignore[no-untyped-call]

    def _init_value(self, key: str) -> None:
        if self._used + len(key.encode()) + _ENTRY_BYTES <= _ROOM:
            super()._init_value(key)  # type: ignore[no-untyped-call]
            return
        if not self._is_full:
            log.error("the memory for metrics is full: some series are counted but not shown")
        self._is_full = True
        self._positions[key] = _ROOM  # a scrape does not read it


def _name(kind: str, place: int) -> str:
    return f"{kind}_{place}.db"


def _used(file: int) -> int:
    return int.from_bytes(os.pread(file, 4, 0), sys.byteorder)


def _memory(name: str) -> int:
    """Return an empty file in memory, or an unlinked temporary file if the system has no memfd."""
    if not hasattr(os, "memfd_create"):
        with tempfile.TemporaryFile() as file:
            file.truncate(FILE_BYTES)
            return os.dup(file.fileno())
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, FILE_BYTES)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    return descriptor

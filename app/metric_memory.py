"""Where the processes of a service keep their metrics: in memory that they share, not in a directory.

The client library shares metrics by files that each process maps, one for each kind of metric. A file on a disk can
be cleaned away, cut short or find its disk full, and then costs the process that maps it its life. Here the files are
memory of the service (memfd_create(2), sealed against shrinking) and go with its last process.

A process counts in a place, and one that replaces another goes on counting in the other's: so counters never go back,
however many workers come and go, and a scrape always reads the same few files.
https://prometheus.github.io/client_python/multiprocess/
"""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from collections.abc import Iterator
from typing import Any

from prometheus_client import multiprocess, values
from prometheus_client.metrics_core import Metric
from prometheus_client.mmap_dict import MmapedDict, _read_all_values
from prometheus_client.multiprocess import MultiProcessCollector

KINDS = ("counter", "histogram", "gauge_livemax", "gauge_mostrecent")
LIVE = "gauge_livemax"  # what a process that is gone says no longer counts
VARIABLE = "METRICS_IN_MEMORY"

_files: dict[str, int] = {}  # descriptors, by the name that the library gives a file
_free_places: list[int] = []


def create(places: int) -> None:
    """Make the files of so many processes; those that are forked have them too."""
    _free_places.extend(range(places))
    for place in range(places):
        for kind in KINDS:
            _files[_name(kind, place)] = _memory(_name(kind, place))


def take_place() -> int | None:
    """A place for another process; None where all are taken, so that its metrics stay with itself."""
    return _free_places.pop(0) if _free_places else None


def for_child(place: int) -> dict[str, str]:
    """What a process that is started, not forked, needs in its environment; it has to keep `descriptors` open."""
    return {VARIABLE: json.dumps([place, _files])}


def descriptors() -> list[int]:
    return list(_files.values())


def join(place: int) -> None:
    """Count in this place from now on; to be called before the first metric is made."""
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = ""  # what the library puts before a file's name
    values.MmapedDict = _InMemory  # type: ignore[attr-defined]
    values.ValueClass = values.MultiProcessValue(lambda: place)  # type: ignore[no-untyped-call]


def join_as_child() -> None:
    """The same in a process that was started `for_child`; nothing in any other."""
    if VARIABLE in os.environ:
        place, files = json.loads(os.environ[VARIABLE])
        _files.update(files)
        join(place)


def leave(place: int) -> None:
    """The process of this place has ended; who takes it next counts on from where it has come to."""
    _free_places.insert(0, place)
    os.pwrite(_files[_name(LIVE, place)], bytes(8), 0)


def is_shared() -> bool:
    return bool(_files)


class Collector:
    """The metrics of all processes."""

    def collect(self) -> Iterator[Metric]:
        multiprocess.MmapedDict = _InMemory  # type: ignore[attr-defined]
        merged: Iterator[Metric] = MultiProcessCollector.merge(sorted(_files))  # type: ignore[no-untyped-call]
        return merged


class _InMemory(MmapedDict):
    """One of the files, by its name."""

    def __init__(self, filename: str, read_mode: bool = False) -> None:
        super().__init__(os.dup(_files[filename]), read_mode)  # type: ignore[no-untyped-call]

    @staticmethod
    def read_all_values_from_file(filename: str) -> Any:
        file = _files[filename]
        content = os.pread(file, os.fstat(file).st_size, 0)
        return _read_all_values(content) if any(content[:4]) else ()  # type: ignore[no-untyped-call]


def _name(kind: str, place: int) -> str:
    return f"{kind}_{place}.db"


def _memory(name: str) -> int:
    """An empty file. Where the system has none in memory, one that no directory names."""
    if not hasattr(os, "memfd_create"):
        with tempfile.TemporaryFile() as file:
            return os.dup(file.fileno())
    made = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    fcntl.fcntl(made, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    return made

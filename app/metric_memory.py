"""Where the processes of a service keep their metrics: in memory that they share, not in a directory.

The client library shares metrics by files that each process maps, one for each kind of metric. A file on a disk can
be cleaned away, cut short or find its disk full, and then costs the process that maps it its life. Here the files are
memory of the service (memfd_create(2), its size sealed) and go with its last process.

A process counts in a place, and one that replaces another goes on counting in the other's: so counters never go back,
however many workers come and go, and a scrape always reads the same few files.

A file never grows, since growing can fail: a series for which it has no room is counted and not shown, and costs
nothing else. A series takes some 250 bytes, so there is room for some 4,000 of a kind.
https://prometheus.github.io/client_python/multiprocess/
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

LIVE = ("gauge_livemax", "gauge_livesum")  # what a process that is gone says no longer counts
KINDS = ("counter", "histogram", "gauge_mostrecent", *LIVE)
FILE_BYTES = 1 << 20  # taken as it is used
VARIABLE = "METRICS_IN_MEMORY"

_VALUE_BYTES = 16
_ROOM = FILE_BYTES - _VALUE_BYTES  # behind it lies one value, for all that have no room
_ENTRY_BYTES = 4 + 8 + _VALUE_BYTES  # beside the key: its length, what aligns it, the value

log = logging.getLogger(__name__)

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
    for kind in LIVE:
        os.pwrite(_files[_name(kind, place)], bytes(8), 0)


def is_shared() -> bool:
    return bool(_files)


def fullest() -> float:
    """How full the fullest file is, 0 to 1."""
    return max(map(_used, _files.values()), default=0) / _ROOM


class Collector:
    """The metrics of all processes."""

    def collect(self) -> Iterator[Metric]:
        multiprocess.MmapedDict = _InMemory  # type: ignore[attr-defined]
        merged: Iterator[Metric] = MultiProcessCollector.merge(sorted(_files))  # type: ignore[no-untyped-call]
        return merged


class _InMemory(MmapedDict):
    """One of the files, by its name."""

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
            log.error("the memory for metrics is full: some are counted and not shown")
        self._is_full = True
        self._positions[key] = _ROOM  # which nobody reads


def _name(kind: str, place: int) -> str:
    return f"{kind}_{place}.db"


def _used(file: int) -> int:
    return int.from_bytes(os.pread(file, 4, 0), sys.byteorder)


def _memory(name: str) -> int:
    """An empty file. Where the system has none in memory, one that no directory names."""
    if not hasattr(os, "memfd_create"):
        with tempfile.TemporaryFile() as file:
            file.truncate(FILE_BYTES)
            return os.dup(file.fileno())
    made = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(made, FILE_BYTES)
    fcntl.fcntl(made, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    return made

"""How gunicorn runs the service: `gunicorn -c deploy/gunicorn.conf.py wsgi:app`, or `plum-outcomes serve`.

The access log stays off: its lines would hold the URLs' keys.
"""

import gc
import os
import resource
import subprocess
import sys
import threading
import time

from gunicorn import glogging

from app import garbage_collection, logs, metric_memory
from app.config import from_environment
from app.gunicorn_worker import MAX_WAITING, MAX_WORKING

garbage_collection.collect_rarely()  # workers inherit it
_settings = from_environment()

# Each connection is an open file, and the default limit of most systems is low.
_, _most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (_most_files, _most_files))


class Quiet(glogging.Logger):
    """Write no access log, and do not prepare its lines either."""

    def access(self, resp, req, environ, request_time):
        pass


logger_class = Quiet
worker_class = "app.gunicorn_worker.Worker"  # bounds what clients hold
worker_connections = 2 * MAX_WAITING + 2 * MAX_WORKING  # the worker's own limits are lower
# Each new worker needs a temporary file, and /tmp may be full.
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: S108  gunicorn unlinks the file at once
workers = 2  # one serves while the other is replaced; `serve --workers` overrides it
timeout = 60  # of a worker's heartbeat; four times what a post may wait for a store that hangs
graceful_timeout = 10  # for requests under way; all processes have to end within 15 s
keepalive = 75  # longer than proxies keep connections, so that no proxy posts into a closing one
umask = 0o077  # the files contain phone numbers
control_socket_disable = True  # unused, and an attack surface
logconfig_dict = logs.config(_settings.log_format)
limit_request_line = 8190  # the filters of a query are in its URL
limit_request_fields = 100
limit_request_field_size = 8190  # the worker limits the whole head
# gunicorn ignores headers that change scheme and path: PLUM_TRUSTED_PROXIES decides about the scheme, and a changed
# path would bypass the proxy's rules.
secure_scheme_headers = {}
forwarder_headers = ""

_beside = {}  # command → the process beside the workers
# Held while one of these starts: a worker forked at that time would keep the pipe open that reports its start.
_starting = threading.Lock()


def on_starting(server):
    """Create a slot for each process's metrics. During a reload there are twice as many workers."""
    os.register_at_fork(before=_starting.acquire, after_in_parent=_starting.release, after_in_child=_starting.release)
    metric_memory.create(places=2 + 2 * server.cfg.workers + 8)


def when_ready(server):
    """Start housekeeping and the analytical copy beside the workers; restart them if they end."""
    for name in ["housekeeping", *(["analytics"] if "analyst" in _settings.roles else [])]:
        threading.Thread(target=_keep, args=(server, name), daemon=True).start()


def _keep(server, name):
    command = [sys.executable, "-m", "app.cli", name, "--while-parent", str(os.getpid())]
    environment = os.environ | metric_memory.for_child(metric_memory.take_place())
    while True:
        with _starting:
            started = _beside[name] = subprocess.Popen(command, env=environment, pass_fds=metric_memory.descriptors())
        started.wait()
        server.log.warning("%s has ended; it is started again", name)
        time.sleep(1)


def post_worker_init(worker):
    """Let live streams end with the worker, and exclude the loaded application from garbage collection."""
    worker.wsgi.extensions["plum"].feed.is_stopping = lambda: not worker.alive
    gc.collect()
    gc.freeze()


def pre_fork(server, worker):
    worker.place = metric_memory.take_place()


def post_fork(server, worker):
    if worker.place is not None:
        metric_memory.join(worker.place)


def child_exit(server, worker):
    if worker.place is not None:
        metric_memory.leave(worker.place)


def on_exit(server):
    for started in _beside.values():
        started.terminate()

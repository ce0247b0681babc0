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

from app import garbage, logs, metric_memory
from app.config import from_environment
from app.gunicorn_worker import MAX_WAITING, MAX_WORKING

garbage.collect_rarely()  # workers are forks of this process
_settings = from_environment()

# A connection takes a file, and most systems give a process few at first.
_, _most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (_most_files, _most_files))


class Quiet(glogging.Logger):
    """No access log, nor the work of preparing its lines."""

    def access(self, resp, req, environ, request_time):
        pass


logger_class = Quiet
worker_class = "app.gunicorn_worker.Worker"  # bounds what strangers hold
worker_connections = 2 * MAX_WAITING + 2 * MAX_WORKING  # the worker has limits of its own, well below
# A file that is never written to, but has to be made for each worker: /tmp may be full when one has to be replaced.
worker_tmp_dir = "/dev/shm" if os.path.isdir("/dev/shm") else None  # noqa: S108  in memory, and named by nobody
workers = 2  # so that one goes on while another is replaced; `serve --workers` says how many
timeout = 60  # without a sign of life; four times what a post may wait for a store that hangs
graceful_timeout = 10  # for what is under way at the end; all processes have to be gone within 15 s
keepalive = 75  # longer than proxies keep a connection, so that none sends a post into one that is just closed
umask = 0o077  # what is kept holds phone numbers
control_socket_disable = True  # nobody asks by it, and it would be one more way in
logconfig_dict = logs.config(_settings.log_format)
limit_request_line = 8190  # a question has its filters in its URL
limit_request_fields = 100
limit_request_field_size = 8190  # a head as a whole has the worker's limit
# What headers say of scheme and path counts for nothing here: PLUM_TRUSTED_PROXIES says who may tell the scheme, and
# by another path a request would get past the proxy's rules.
secure_scheme_headers = {}
forwarder_headers = ""

_beside = {}  # the processes beside the workers, by their command
# Held while one of these is started: a worker forked meanwhile would keep open the pipe that tells when it has been.
_starting = threading.Lock()


def on_starting(server):
    """Each process has a place of its own for its metrics. A reload has twice as many workers for a while."""
    os.register_at_fork(before=_starting.acquire, after_in_parent=_starting.release, after_in_child=_starting.release)
    metric_memory.create(places=2 + 2 * server.cfg.workers + 8)


def when_ready(server):
    """Housekeeping and the analytical copy run beside the workers, and are started again should they end."""
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
    """Live streams end when the worker is told to.

    What the application has loaded stays; it need not be looked through for garbage again and again.
    """
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

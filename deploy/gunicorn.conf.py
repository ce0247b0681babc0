"""How gunicorn runs the service: `gunicorn -c deploy/gunicorn.conf.py wsgi:app`, or `plum-outcomes serve`.

The access log stays off: its lines would hold the URLs' keys.
"""

import gc
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time

# The workers keep their metrics in files here; a directory of ours is made anew at each start.
# The client library looks for it when it is imported.
_own_metrics = "PROMETHEUS_MULTIPROC_DIR" not in os.environ
if _own_metrics:
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp(prefix="plum-metrics-")

from gunicorn import glogging  # noqa: E402
from prometheus_client import multiprocess  # noqa: E402

from app import logs  # noqa: E402
from app.config import from_environment  # noqa: E402


class Quiet(glogging.Logger):
    """No access log, nor the work of preparing its lines."""

    def access(self, resp, req, environ, request_time):
        pass


logger_class = Quiet
worker_class = "gevent"
worker_connections = 1000
workers = 2
timeout = 60
umask = 0o077  # what is kept holds phone numbers
graceful_timeout = 10
keepalive = 75
control_socket_disable = True
logconfig_dict = logs.config(from_environment().log_format)
limit_request_line = 8190
limit_request_fields = 1000
limit_request_field_size = 65536

_housekeeping = []


def when_ready(server):
    """Housekeeping runs beside the workers, and is started again should it end."""
    threading.Thread(target=_keep_house, args=(server,), daemon=True).start()


def _keep_house(server):
    command = [sys.executable, "-m", "app.cli", "housekeeping", "--while-parent", str(os.getpid())]
    while True:
        _housekeeping.append(subprocess.Popen(command))
        _housekeeping[-1].wait()
        server.log.warning("housekeeping has ended; it is started again")
        time.sleep(1)


def post_worker_init(worker):
    """Live streams end when the worker is told to.

    What the application has loaded stays; it need not be looked through for garbage again and again.
    """
    worker.wsgi.extensions["plum"].feed.is_stopping = lambda: not worker.alive
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 50)


def child_exit(server, worker):
    multiprocess.mark_process_dead(worker.pid)


def on_exit(server):
    if _housekeeping:
        _housekeeping[-1].terminate()
    if _own_metrics:
        shutil.rmtree(os.environ["PROMETHEUS_MULTIPROC_DIR"], ignore_errors=True)

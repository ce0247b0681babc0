"""How gunicorn runs the service: `gunicorn -c deploy/gunicorn.conf.py wsgi:app`, or `plum-outcomes serve`.

The access log stays off: its lines would hold the URLs' keys.
"""

import os
import shutil
import tempfile

from prometheus_client import multiprocess

from app import logs
from app.config import from_environment

worker_class = "gevent"
worker_connections = 1000
workers = 2
timeout = 60
graceful_timeout = 12
keepalive = 75
control_socket_disable = True
logconfig_dict = logs.config(from_environment().log_format)
limit_request_line = 8190
limit_request_fields = 1000
limit_request_field_size = 65536

# The workers keep their metrics in files here; a directory of ours is made anew at each start.
_own_metrics = "PROMETHEUS_MULTIPROC_DIR" not in os.environ
if _own_metrics:
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = tempfile.mkdtemp(prefix="plum-metrics-")


def child_exit(server, worker):
    multiprocess.mark_process_dead(worker.pid)


def on_exit(server):
    if _own_metrics:
        shutil.rmtree(os.environ["PROMETHEUS_MULTIPROC_DIR"], ignore_errors=True)

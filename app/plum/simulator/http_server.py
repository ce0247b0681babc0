"""Serve the platform on loopback only, since it has no real credentials and fetches any URL that it is given."""

from __future__ import annotations

import ipaddress
import json
import signal
import socket
from collections.abc import Callable, Mapping

from flask import Flask, Response
from werkzeug.exceptions import HTTPException
from werkzeug.serving import WSGIRequestHandler, make_server

from app.plum.simulator.dev_api import dev_api
from app.plum.simulator.insight_fuse_api import insight_fuse_api
from app.plum.simulator.platform import Behaviour, Platform
from app.plum.simulator.responses import KEY, LOGIN, PIN, USER, error

MAX_REQUEST_BYTES = 64 * 1048576
POLL_SECONDS = 0.1

# The settings with which the receiver and its client find the platform; `{}` is the address.
SETTINGS = {
    "PLUM_DEV_URL": "{}/dev",
    "PLUM_DEV_LOGIN": LOGIN,
    "PLUM_DEV_PIN": PIN,
    "PLUM_INSIGHT_URL": "{}/insight",
    "PLUM_INSIGHT_USER": USER,
    "PLUM_INSIGHT_KEY": KEY,
    "PLUM_FUSE_URL": "{}/fuse",
    "PLUM_FUSE_USER": USER,
    "PLUM_FUSE_KEY": KEY,
}


def serve(bind: str, conduct: Behaviour, tell: Callable[[Mapping[str, str]], None]) -> None:
    """Serve until SIGTERM or SIGINT. `tell` is called with the `SETTINGS` once the server accepts connections.

    Raises ValueError for an address that is not loopback, OSError if the address is not available.
    """
    host, port = _loopback(bind)
    for number in (signal.SIGTERM, signal.SIGINT):  # the parent process may have set SIGINT to be ignored
        signal.signal(number, signal.default_int_handler)  # its KeyboardInterrupt ends the server below
    with _listener(host, port) as listener:  # werkzeug's own listener would end the process if the port is taken
        platform = Platform(conduct)
        try:
            _serve(listener, host, platform, tell)
        finally:
            platform.close()


def _serve(listener: socket.socket, host: str, platform: Platform, tell: Callable[[Mapping[str, str]], None]) -> None:
    port = listener.getsockname()[1]
    server = make_server(
        host, port, application(platform), threaded=True, request_handler=_Quiet, fd=listener.fileno()
    )
    url_host = f"[{host}]" if ":" in host else host
    tell({name: value.format(f"http://{url_host}:{port}") for name, value in SETTINGS.items()})
    server.serve_forever(POLL_SECONDS)


def application(platform: Platform) -> Flask:
    """Return the app with Plum's APIs below `/dev`, `/insight` and `/fuse`, and the simulator's own `/truth`."""
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = MAX_REQUEST_BYTES
    app.register_blueprint(dev_api(platform))
    for product in ("insight", "fuse"):
        app.register_blueprint(insight_fuse_api(product, platform))
    app.register_error_handler(HTTPException, error)

    @app.get("/truth")
    def truth() -> Response:
        """Return what really happened to each call, one line per call, for tests. Not an API of Plum's."""
        lines = (json.dumps(call) + "\n" for call in platform.truth())
        return Response(lines, content_type="application/x-ndjson")

    return app


class _Quiet(WSGIRequestHandler):
    def log(self, *_: object) -> None:
        """Log nothing: werkzeug would quote a form that does not parse, with its phone numbers."""


def _loopback(bind: str) -> tuple[str, int]:
    host, _, port = bind.rpartition(":")
    host = host.strip("[]")
    try:
        is_loopback = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"{bind!r} is no address to bind to: give a loopback one, like 127.0.0.1:8100")
    return host, int(port)


def _listener(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=128)

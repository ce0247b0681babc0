"""A button that simulates a campaign of calls, for development on this machine only."""

from __future__ import annotations

import subprocess
import sys
import threading
from datetime import timedelta
from urllib.parse import urlsplit

from flask import Response, request

from app.errors import Exists
from app.model import networks
from app.store import integrations
from app.web.errors import Forbidden
from app.web.origin import base_url, is_in, peer
from app.web.pages.site import Blueprint, may, redirect_to
from app.web.parts import now, parts

NAME = "simulated"

_GRACE = timedelta(minutes=10)  # for which the previous key works, so that a running campaign can end
_LOOPBACK = networks("127.0.0.0/8,::1")

blueprint = Blueprint("demonstration", __name__)


@blueprint.app_template_global()
def can_simulate() -> bool:
    """True in a development install: reached by loopback, without a public URL, by a token with the scope admin."""
    settings = parts().settings
    return (
        settings.public_url is None
        and "receiver" in settings.roles
        and is_in(peer(request.environ, settings.trusted_proxies), _LOOPBACK)
        and may("admin")
    )


@blueprint.form("/simulate")
def simulate() -> Response:
    """Start a process that posts simulated calls to an integration of their own, and show the list of its calls."""
    if not can_simulate():
        raise Forbidden("calls are simulated only where PLUM_PUBLIC_URL is not set, from this machine")
    here = base_url(request.environ, parts().settings.trusted_proxies, None)
    if not is_in(urlsplit(here).hostname, _LOOPBACK):
        raise Forbidden("calls are simulated only under an address of loopback, such as http://127.0.0.1:8000")
    simulator = subprocess.Popen([sys.executable, "-m", "app.plum.simulator"], stdin=subprocess.PIPE, text=True)
    threading.Thread(target=simulator.communicate, args=(f"{here}/result/{_key()}",), daemon=True).start()
    return redirect_to("calls.show", integration=NAME)


def _key() -> str:
    """Return a new key each time, since the previous one is stored only as a hash."""
    try:
        return integrations.add_integration(parts().beside, NAME, None, now())
    except Exists:
        return integrations.rotate_integration(parts().beside, NAME, _GRACE, now())[1]

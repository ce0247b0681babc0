"""The APIs of Insight and Fuse. https://docs.plumvoice.com/insight/api · https://docs.plumvoice.com/fuse/apis"""

from __future__ import annotations

from collections.abc import Callable

from flask import Blueprint, Response, abort, request

from app.plum.simulator.platform import Platform
from app.plum.simulator.queue_requests import QueueRequest, Rejected, batch, single
from app.plum.simulator.responses import KEY, USER, insight_or_fuse, is_known, wants_xml
from app.plum.simulator.wire_forms import FORM

FOLDERS = {"insight": "surveys", "fuse": "apps"}

# Deployments that always respond with an error, to try the error handling: `403/1`, for example.
AWKWARD = {"403": 403, "404": 404, "409": 409, "500": 500}
UNKNOWN_CALL = {"error": "No outbound call was found by that id."}


def insight_fuse_api(product: str, platform: Platform) -> Blueprint:
    api = Blueprint(product, __name__, url_prefix=f"/{product}/api")
    deployment = f"/{FOLDERS[product]}/<folder>/<number>"

    @api.before_request
    def authenticate() -> None:
        login = request.authorization
        if login is None or not is_known(login.username or "", login.password or "", (USER, KEY)):
            abort(401)

    @api.post(f"{deployment}/queue")
    def queue(folder: str, number: str) -> Response:
        to = _deployment(product, folder, number)
        call_id = _queue(platform, lambda: [single(product, to, request.form)])[0]
        url = f"{request.host_url}{product}/api/outbound/{call_id}"
        return insight_or_fuse(product, {"call_id": call_id}, link=f'<{url}>; rel="status"')

    @api.post(f"{deployment}/bulk_queue")
    def bulk_queue(folder: str, number: str) -> Response:
        to, file = _deployment(product, folder, number), request.files.get("csv")
        content = file.read() if file else None
        _queue(platform, lambda: batch(product, to, request.form, content))
        return insight_or_fuse(product, {})

    @api.delete(f"{deployment}/cancel")
    def cancel(folder: str, number: str) -> Response:
        platform.cancel(product, _deployment(product, folder, number))
        return Response(status=202)

    @api.get("/outbound/<call_id>")
    def outbound(call_id: str) -> Response:
        if call_id in AWKWARD:
            abort(AWKWARD[call_id])
        status = platform.status(product, call_id, "xml" if wants_xml() else "json")
        if status is None:
            return insight_or_fuse(product, UNKNOWN_CALL, 404)
        return Response(status[1], content_type=status[0])

    return api


def _queue(platform: Platform, orders: Callable[[], list[QueueRequest]]) -> list[int]:
    try:
        return platform.queue(orders())
    except Rejected as rejected:
        abort(400, str(rejected))


def _deployment(product: str, folder: str, number: str) -> str:
    """Return the deployment in the URL; abort with Plum's error for a request that Plum would not accept."""
    if product == "insight" and request.mimetype not in (FORM, "multipart/form-data"):
        abort(415)
    if folder in AWKWARD or not (folder + number).isalnum():
        abort(AWKWARD.get(folder, 404))
    return f"{folder}/{number}"

"""DEV's API. https://docs.plumvoice.com/dev/plum-dev-apis/dev-outbound-apis"""

from __future__ import annotations

from flask import Blueprint, Response, abort, request

from app.plum.simulator.platform import Platform
from app.plum.simulator.queue_requests import Rejected, batch, single
from app.plum.simulator.responses import LOGIN, PIN, dev, is_known


def dev_api(platform: Platform) -> Blueprint:
    api = Blueprint("dev", __name__, url_prefix="/dev/webservice")

    @api.before_request
    def authenticate() -> None:
        if not is_known(request.form.get("login", ""), request.form.get("pin", ""), (LOGIN, PIN)):
            abort(401)

    @api.post("/queuecall.php")
    def queue_call() -> Response:
        try:
            [call_id] = platform.queue([single("dev", "default", request.form)])
        except Rejected:
            return dev("queuecall", "failed")
        return dev("queuecall", "queued", call_id)

    @api.post("/queuecalls.php")
    def queue_calls() -> Response:
        # Any field name is accepted, since no available page of Plum's confirms it.
        lists = [file.read() for file in request.files.values()]
        campaign = request.form.get("campaign_name", "")
        try:
            platform.queue(batch("dev", campaign, request.form, lists[0] if lists else None))
        except Rejected:
            return dev("queuecalls", "failed")
        return dev("queuecalls", "queued")

    return api

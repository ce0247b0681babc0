"""A delivery understood: bytes in, values out. Pure, and it never raises."""

from app import products
from app.errors import Unreadable
from app.model import Delivery, Reading
from app.normalise import VERSION, normalise


def interpret(delivery: Delivery, region: str = "US") -> Reading:
    """The delivery's reading: the call as it tells it, or the reason why it does not."""
    try:
        if delivery.cut_short:
            raise Unreadable("cut_short")
        report = products.report(delivery.body, delivery.content_type, delivery.product)
        outcome = normalise(delivery, report, region)
    except Unreadable as unreadable:
        return Reading(delivery, reason=str(unreadable), normaliser=VERSION)
    except Exception:  # noqa: BLE001
        # A fault of ours must not cost the callback: it is kept, seen and counted under its own reason,
        # and reprocessing mends it once the program is mended.
        return Reading(delivery, reason="not_understood", normaliser=VERSION)
    return Reading(delivery, outcome=outcome, problems=outcome.problems, normaliser=VERSION)

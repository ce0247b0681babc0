"""Outbound calls: queues them at Plum, selects whom to redial, and looks for results that did not arrive."""

"""Receiver and store for Plum Voice call results. `factory.create_app` wires its parts together."""

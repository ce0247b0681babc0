"""Receiver and store for Plum Voice call results. `factory.create_app` shows how the parts fit."""

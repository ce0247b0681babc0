"""The other side of the wire: Plum's own APIs, and a stand-in for Plum as the sender of results."""

"""The other side of the wire: a client of Plum's own APIs, and a stand-in for Plum. Neither knows the other."""

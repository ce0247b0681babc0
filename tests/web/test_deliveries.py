"""What is kept of a post's head."""

from __future__ import annotations

import pytest

from app.web.deliveries import Address, kept_headers


@pytest.mark.parametrize("as_sent", ["LX-key_1", "%4cX-key%5F1"])
def test_the_key_of_the_url_is_kept_in_no_header(as_sent: str) -> None:
    environ = {
        "HTTP_X_ORIGINAL_URI": f"/result/{as_sent}/call/1",
        "HTTP_REFERER": "https://a/result/LX-key_1",
        "HTTP_AUTHORIZATION": "Bearer t",
    }
    assert kept_headers(environ, Address("LX-key_1", as_sent)) == (
        ("X-Original-Uri", "/result/(key)/call/1"),
        ("Referer", "https://a/result/(key)"),
        ("Authorization", "(secret, not kept)"),
    )

"""An analyst's browser, as far as a page without scripts needs one."""

from __future__ import annotations

import html
import re
from datetime import UTC, datetime

from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app.model import Scope
from app.store.database import Database
from app.store.tokens import add_token
from app.web.session import COOKIE


class Reader:
    """Signed in with a token of its own."""

    def __init__(self, app: Flask, database: Database, scope: Scope, name: str | None = None) -> None:
        self.token = add_token(database, name or f"reader-{scope}", scope, datetime.now(UTC))
        self.client: FlaskClient = app.test_client()
        self.client.set_cookie(COOKIE, self.token)

    def open(self, path: str) -> str:
        answer = self.client.get(path)
        assert answer.status_code == 200, answer.text
        assert len(answer.data) < 100_000
        return answer.text

    def send(self, path: str, **fields: str) -> TestResponse:
        """A form of a page, whose secret it brings unless another is given."""
        return self.client.post(path, data={"csrf": self.csrf} | fields)

    @property
    def csrf(self) -> str:
        return re.search(r'name="csrf" value="(\w+)"', self.client.get("/attention").text)[1]


def section(page: str, name: str) -> str:
    """The part of a page below this heading, as text; elements have become spaces."""
    found = page.split(f'<h2 id="{name}">')[1].split("</section>")[0]
    return re.sub(r"\s+", " ", html.unescape(re.sub("<[^>]*>", " ", found)))

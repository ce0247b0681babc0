"""What somebody writes with a client made from the document: `python generated.py URL TOKEN INTEGRATION`.

A process of its own, with the generated package on its path. It prints each page that it was given.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

from plum_outcomes_client import AuthenticatedClient
from plum_outcomes_client.api.records import list_outcomes
from plum_outcomes_client.models import OutcomeFilters, PageOfOutcome
from plum_outcomes_client.types import UNSET


def pages(client: AuthenticatedClient, filters: OutcomeFilters) -> Iterator[PageOfOutcome]:
    cursor: Any = UNSET
    while cursor is not None:
        page = list_outcomes.sync(
            client=client,
            since=datetime(2026, 3, 1, tzinfo=UTC),
            tz="America/New_York",
            sort=["call_id"],
            limit=2,
            cursor=cursor,
            count="exact",
            filters=filters,
        )
        assert isinstance(page, PageOfOutcome), page
        yield page
        cursor = parse_qs(urlsplit(page.next_).query)["cursor"][0] if page.next_ else None


def main(url: str, token: str, integration: str) -> None:
    client = AuthenticatedClient(url, token)
    filters = OutcomeFilters(integration=integration, disposition="busy,no_answer", attempts_gte="2")
    print(json.dumps([page.to_dict() for page in pages(client, filters)]))
    problem = list_outcomes.sync(client=client, filters=OutcomeFilters(disposition="bussy"))
    print(json.dumps(problem.to_dict()))


if __name__ == "__main__":
    main(*sys.argv[1:])

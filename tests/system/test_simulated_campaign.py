"""A misbehaving campaign of all three products: the outcomes equal what was sent, field by field."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.system.conftest import Sender, Service
from tests.system.test_api import OUTCOME_FIELDS

ENGINE = "sqlite"

CALLS = 300
OURS = {"id", "integration", "received_at", "updated_at", "normaliser", "metadata"}  # what no sender can know


class Campaign:
    """Three senders and what was posted to them."""

    def __init__(self, service: Service, directory: Path) -> None:
        self.service = service
        self.senders = [service.sender(f"campaign-{product}", product) for product in ("dev", "insight", "fuse")]
        self.file = directory / "expected.ndjson"
        self.summary = self.run(self.file)
        self.expected = [json.loads(line) for line in self.file.read_text().splitlines()]
        for one in self.expected:
            phones = (one["outcome"]["phone_number"], one["outcome"]["phone_number_raw"])
            service.secrets.update(phone for phone in phones if phone and len(phone) > 6)

    def run(self, file: Path) -> Any:
        urls = [
            f"--result-url={sender.name.removeprefix('campaign-')}={sender.result_url}" for sender in self.senders
        ]
        return self.service.json(
            "simulate", "--calls", str(CALLS), "--seed", "7", "--misbehave", "--expect", str(file), *urls
        )

    def told(self, sender: Sender) -> list[dict[str, Any]]:
        return [one["outcome"] for one in self.expected if one["result_url"] == sender.result_url]


@pytest.fixture(scope="module")
def campaign(service: Service, tmp_path_factory: pytest.TempPathFactory) -> Campaign:
    return Campaign(service, tmp_path_factory.mktemp("campaign"))


def counted(records: Iterable[dict[str, Any]]) -> Counter[str]:
    return Counter(json.dumps(record, sort_keys=True, ensure_ascii=False) for record in records)


def as_told(outcome: dict[str, Any]) -> dict[str, Any]:
    """The outcome less what only the receiver knows; `ended_at` is null where its own clock had to tell."""
    known = {name: value for name, value in outcome.items() if name not in OURS}
    return known | ({"ended_at": None} if outcome["ended_at"] == outcome["received_at"] else {})


def test_everything_is_acknowledged(campaign: Campaign) -> None:
    assert (campaign.summary["refused"], campaign.summary["errors"]) == ({}, {})
    assert campaign.summary["acknowledged"] == campaign.summary["posted"] > CALLS
    assert len(campaign.expected) == CALLS
    assert all(one["acknowledged"] for one in campaign.expected)


def test_every_post_is_a_delivery(campaign: Campaign) -> None:
    posted = sum(len(sender.deliveries()) for sender in campaign.senders)
    assert posted == campaign.summary["posted"]


@pytest.mark.parametrize("product", ["dev", "insight", "fuse"])
def test_the_outcomes_equal_what_was_sent_field_by_field(campaign: Campaign, product: str) -> None:
    [sender] = [sender for sender in campaign.senders if sender.name.endswith(product)]
    told, read = campaign.told(sender), [as_told(outcome) for outcome in sender.outcomes()]
    assert {frozenset(one) for one in told} == {frozenset(OUTCOME_FIELDS) - OURS}
    assert counted(read) - counted(told) == Counter()
    assert counted(told) - counted(read) == Counter()
    assert len(read) > 50


def test_no_phone_of_a_campaign_is_shown_to_a_reader(campaign: Campaign) -> None:
    reader = campaign.service.read_token
    for sender in campaign.senders:
        records = campaign.service.records("outcomes", token=reader, integration=sender.name)
        shown = {record["phone_number"] for record in records} - {None}
        assert shown.isdisjoint({outcome["phone_number"] for outcome in campaign.told(sender)})
        assert all("•••" in phone for phone in shown)


def test_the_same_seed_gives_the_same_campaign_with_every_identity(campaign: Campaign, tmp_path: Path) -> None:
    before = {outcome["id"]: outcome for sender in campaign.senders for outcome in sender.outcomes()}
    campaign.run(tmp_path / "again.ndjson")
    assert (tmp_path / "again.ndjson").read_bytes() == campaign.file.read_bytes()
    after = {outcome["id"]: outcome for sender in campaign.senders for outcome in sender.outcomes()}
    nameless = [outcome for outcome in before.values() if outcome["identity"] == "none"]
    assert len(after) == len(before) + len(nameless)
    for known in before.values():
        changed = {name for name in known if known[name] != after[known["id"]][name]}
        assert changed - {"updated_at"} <= ({"possible_duplicate"} if known in nameless else {"deliveries"})


def test_an_unknown_url_fails_the_probe_and_posts_nothing(campaign: Campaign) -> None:
    url = campaign.service.settings["PLUM_PUBLIC_URL"]
    campaign.service.assert_one_line(
        "simulate", "--calls", "3", "--result-url", f"{url}/result/wrong", says="404|unknown"
    )

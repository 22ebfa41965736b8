"""A reader's way out of a newsletter and back, in a real browser, with scripts switched off."""

from __future__ import annotations

from typing import Any

import pytest

from accounts import sealing
from delivery.core.unsubscribing import make_token, url_for
from delivery.models import Message, Recipient, Stream, Suppression
from tests.support.journeys import Cast, Fate, write_message


@pytest.fixture
def link(cast: Cast) -> str:
    message = write_message(cast.acme, Fate(address="taro@example.jp"), author="news@acme.example", subject="News")
    bulk = Stream.objects.get(tenant=cast.acme, name="bulk")
    Message.objects.filter(pk=message.pk).update(stream_id=bulk.pk)
    reader = Recipient.objects.get(message_id=message.pk)
    return url_for(make_token(reader.pk, key=sealing.derived_keys("unsubscribe")[0]), public_url="")


WORDS = {
    "ja": (
        "このメールの配信を停止しますか？",
        "配信を停止する",
        "配信を停止しました",
        "間違えたので、配信を再開する",
        "配信を再開しました",
    ),
    "en": (
        "Unsubscribe from this mail?",
        "Unsubscribe",
        "You are unsubscribed",
        "It was a mistake: subscribe again",
        "You are subscribed again",
    ),
}


@pytest.mark.parametrize("language", WORDS)
def test_a_reader_unsubscribes_and_takes_it_back(window: Any, link: str, language: str) -> None:
    asked, stop, stopped, again, subscribed = WORDS[language]
    page = window(language, "light", 360, 640, java_script_enabled=False).open(link)

    assert page.locator("h1").inner_text() == asked
    assert not Suppression.objects.exists()
    page.get_by_role("button", name=stop).press("Enter")
    assert page.locator("h1").inner_text() == stopped
    assert Suppression.objects.filter(removed_at=None).count() == 1
    page.get_by_role("button", name=again).click()
    assert page.locator("h1").inner_text() == subscribed
    assert not Suppression.objects.filter(removed_at=None).exists()

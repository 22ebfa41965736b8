"""The operator's matrix of source addresses and providers, and what is changed from it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from accounts.models import AuditEntry
from delivery import pools
from delivery.models import Node, Path, PathChange, ProviderGroup, SourceAddress
from delivery.shaping import overrides
from tests.integration.console.conftest import SignedIn
from tests.support.journeys import Cast, Fate, Try, write_message

PAGE = "/operator/throttles/"


@pytest.fixture
def olivia(cast: Cast, signed_in: SignedIn) -> Client:
    return signed_in(cast.olivia)


@pytest.fixture
def path(db: None) -> Path:
    node, _is_new = Node.objects.get_or_create(name="a")
    source = SourceAddress.objects.create(
        address="192.0.2.10", ehlo_name="mx.relay.example", node=node, pool=pools.find_pool("default")
    )
    group, _is_new = ProviderGroup.objects.get_or_create(key="docomo", defaults={"kind": "provider", "title": "docomo"})
    return Path.objects.create(source=source, group=group, pace_share=0.25, pace_reason="docomo-throttled")


def address_of(path: Path) -> str:
    return f"{PAGE}{path.source_id}/{path.group_id}/"


def test_the_matrix_says_who_is_slowed_and_why(
    cast: Cast, olivia: Client, path: Path, django_assert_max_num_queries: Any
) -> None:
    write_message(cast.acme, Fate(address="a@docomo.ne.jp", state="queued", group="docomo"))

    with django_assert_max_num_queries(15):
        page = olivia.get(PAGE).content.decode()

    assert "0 paths are suspended, 1 is slowed" in page
    assert "25 %" in page and "docomo-throttled" in page and "1 wait" in page
    assert 'id="matrix"' in olivia.get(f"{PAGE}live/").content.decode()
    assert "192.0.2.10" not in olivia.get(f"{PAGE}?pool=nothing").content.decode().split('id="matrix"')[1]
    path.pace_share = 1
    path.save()
    assert "Every path goes at full speed." in olivia.get(PAGE).content.decode()
    assert "192.0.2.10" not in olivia.get(f"{PAGE}?show=trouble").content.decode().split('id="matrix"')[1]


def test_a_host_that_mail_goes_to_right_now_is_shown(olivia: Client, path: Path) -> None:
    site = ProviderGroup.objects.create(key="site:mx.corp.example", kind="site", title="mx.corp.example")
    live = Path.objects.create(source=path.source, group=site)
    assert "mx.corp.example" not in olivia.get(PAGE).content.decode()

    Path.objects.filter(pk=live.pk).update(owner="a/worker-1", leased_until=timezone.now() + timedelta(seconds=30))

    assert "mx.corp.example" in olivia.get(PAGE).content.decode()


def test_a_path_is_suspended_with_a_reason_and_released(cast: Cast, olivia: Client, path: Path) -> None:
    page = olivia.post(f"{address_of(path)}suspend/", {"hours": "2", "reason": "asked by docomo"}, follow=True)

    path.refresh_from_db()
    assert path.suspended_until is not None
    assert timedelta(minutes=119) < path.suspended_until - timezone.now() < timedelta(minutes=121)
    # The next one by the receiver is measured by this: with nothing it would be no suspension at all.
    assert path.suspension_s > 0
    assert "An operator did it" in page.content.decode() and "asked by docomo" in page.content.decode()
    assert AuditEntry.objects.get(action="shaping.suspend").actor == cast.olivia

    page = olivia.post(f"{address_of(path)}release/", follow=True)
    path.refresh_from_db()
    assert (path.suspended_until, path.pace_share) == (None, 1.0)
    assert "Full speed. Nothing to do." in page.content.decode()
    assert "There was nothing to release." in olivia.post(f"{address_of(path)}release/", follow=True).content.decode()
    assert AuditEntry.objects.filter(action="shaping.release").count() == 1
    PathChange.objects.create(path=path, share_before=1, share_after=0.5, reason="docomo-rate", reply="421 <b>slowly")
    page = olivia.get(address_of(path)).content.decode()
    assert "100 % → 50 %" in page and "docomo-rate" in page and "421 &lt;b&gt;slowly" in page
    assert "Released: full speed (25 % before) (by an operator)" in page and "Suspended until" in page


def test_a_path_that_was_never_used_can_be_suspended(olivia: Client, path: Path) -> None:
    Path.objects.all().delete()

    assert b"Full speed" in olivia.get(address_of(path)).content
    olivia.post(f"{address_of(path)}suspend/", {"hours": "1", "reason": "x"})

    assert Path.objects.get().suspended_reason == "operator"


@pytest.mark.parametrize("given", [{"hours": "0", "reason": "x"}, {"hours": "721", "reason": "x"}, {"hours": "1"}])
def test_a_suspension_has_an_end_and_a_reason(olivia: Client, path: Path, given: dict[str, str]) -> None:
    assert b"_error" in olivia.post(f"{address_of(path)}suspend/", given).content
    path.refresh_from_db()
    assert path.suspended_until is None


def test_limits_are_overridden_and_taken_back(cast: Cast, olivia: Client, path: Path) -> None:
    default = overrides.limits_of(path.group)
    page = f"{PAGE}limits/{path.group_id}/"

    olivia.post(page, {"connections": "1", "messages": "1/s, 30/min", "tls": "required"})

    limits = overrides.limits_of(ProviderGroup.objects.get(pk=path.group_id))
    assert limits.connections == 1 and [str(rate) for rate in limits.messages] == ["1/s", "30/min"]
    assert limits.messages_per_connection == default.messages_per_connection
    assert 'value="1/s, 30/min"' in olivia.get(page).content.decode()
    assert "set by an operator" in olivia.get(address_of(path)).content.decode()
    entry = AuditEntry.objects.get(action="shaping.set")
    assert (entry.actor, entry.after["connections"]) == (cast.olivia, 1)

    olivia.post(page, {"tls": ""})
    assert overrides.limits_of(ProviderGroup.objects.get(pk=path.group_id)) == default
    olivia.post(page, {"tls": ""})
    assert AuditEntry.objects.filter(action="shaping.set").count() == 2


@pytest.mark.parametrize("given", [{"connections": "0"}, {"messages": "many"}, {"tls": "maybe"}, {"daily": "-1"}])
def test_limits_that_make_no_sense_change_nothing(olivia: Client, path: Path, given: dict[str, str]) -> None:
    answer = olivia.post(f"{PAGE}limits/{path.group_id}/", given)

    assert answer.status_code == 200 and b"rw-fail" in answer.content
    assert ProviderGroup.objects.get(pk=path.group_id).limits == {}


def test_the_last_replies_are_shown_without_the_recipient(
    cast: Cast, olivia: Client, path: Path, django_assert_max_num_queries: Any
) -> None:
    from delivery.models import Attempt, Recipient

    said = Try(reply="421 4.7.0 slow <b>down", reply_class="rate_limit", rule="docomo-throttled")
    message = write_message(
        cast.acme, Fate(address="secret@docomo.ne.jp", state="deferred", group="docomo", tries=(said,))
    )
    Attempt.objects.filter(message_id=message.id).update(source_id=path.source_id)
    Recipient.objects.filter(message_id=message.id).update(group_id=path.group_id)

    with django_assert_max_num_queries(15):
        page = olivia.get(address_of(path)).content.decode()

    assert "slow &lt;b&gt;down" in page and "secret" not in page
    other = SourceAddress.objects.create(
        address="192.0.2.11", ehlo_name="b.example", node=path.source.node, pool=path.source.pool
    )
    assert "slow" not in olivia.get(f"{PAGE}{other.pk}/{path.group_id}/").content.decode().split("Last replies")[1]

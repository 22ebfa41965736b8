"""relay queue: what waits is described, held, released and withdrawn by whose it is and where it goes."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from accounts.models import AuditEntry
from delivery.models import Lane, Node, Path, ProviderGroup, QueueEntry, Recipient, SourceAddress
from relayweb.commandline.main import main
from relayweb.metrics import exposition
from tests.support.journeys import Cast, Fate, make_cast, write_message

WAITING = {"state": "queued", "tries": ()}


@pytest.fixture
def cast(db: None) -> Cast:
    """Acme waits for docomo twice and for somebody else once, Globex for docomo once."""
    cast = make_cast()
    ProviderGroup.objects.get_or_create(key="docomo", defaults={"kind": "provider", "title": "docomo"})
    write_message(cast.acme, Fate(address="a@docomo.example", group="docomo", **WAITING))
    write_message(
        cast.acme,
        Fate(address="b@docomo.example", group="docomo", **WAITING),
        Fate(address="c@else.example", **WAITING),
    )
    write_message(cast.globex, Fate(address="d@docomo.example", group="docomo", **WAITING))
    return cast


def _run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any]:
    capsys.readouterr()
    code = main([*words, "--json"])
    out = capsys.readouterr().out
    return code, json.loads(out) if out.strip() else None


def _held() -> set[str]:
    return set(Recipient.objects.filter(state="held").values_list("address", flat=True))


def test_one_tenants_mail_to_a_provider_is_held_and_released_and_nobody_elses(
    cast: Cast, capsys: pytest.CaptureFixture[str]
) -> None:
    code, held = _run(capsys, "queue", "hold", "--tenant", "acme", "--provider", "docomo")
    assert (code, held["changed"]) == (0, 2)
    assert _held() == {"a@docomo.example", "b@docomo.example"}

    _, released = _run(capsys, "queue", "release", "--tenant", "acme")

    assert released["changed"] == 2
    assert _held() == set()
    assert AuditEntry.objects.filter(action="queue.hold", tenant=cast.acme).get().after["provider"] == "docomo"


def test_all_is_held_and_only_what_was_held_so_is_released(cast: Cast, capsys: pytest.CaptureFixture[str]) -> None:
    QueueEntry.objects.filter(tenant_id=cast.globex.id).update(held_reason="brake")
    Recipient.objects.filter(tenant=cast.globex).update(state="held", reason="brake")

    assert _run(capsys, "queue", "hold", "--all")[1]["changed"] == 3
    assert _run(capsys, "queue", "release", "--all", "--held-for", "operator")[1]["changed"] == 3

    assert _held() == {"d@docomo.example"}


def test_everybodys_mail_to_a_domain_is_withdrawn(cast: Cast, capsys: pytest.CaptureFixture[str]) -> None:
    _, done = _run(capsys, "queue", "cancel", "--to-domain", "docomo.example")

    assert done["changed"] == 3
    assert QueueEntry.objects.count() == 1


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ((), 2),
        (("--stream", "bulk"), 2),
        (("--all", "--tenant", "acme"), 2),
        (("--provider", "nobody"), 1),
        (("--to-domain", "no domain"), 1),
        (("--tenant", "stranger"), 1),
    ],
)
def test_what_describes_no_mail_changes_none(
    cast: Cast, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], code: int
) -> None:
    assert _run(capsys, "queue", "cancel", *words)[0] == code
    assert QueueEntry.objects.count() == 4


def test_stats_and_metrics_show_what_a_path_has_learnt(cast: Cast, capsys: pytest.CaptureFixture[str]) -> None:
    lane = Lane.objects.filter(group__key="docomo").first()
    assert lane is not None
    node, _ = Node.objects.get_or_create(name="node1")
    source = SourceAddress.objects.create(node=node, pool=lane.pool, address="192.0.2.10", ehlo_name="out.relay.test")
    until = datetime.now(tz=UTC) + timedelta(hours=1)
    path = Path.objects.create(
        source=source,
        group=lane.group,
        pace_share=0.25,
        pace_reason="throttled",
        suspended_until=until,
        suspended_reason="carrier-block",
    )
    QueueEntry.objects.filter(lane_id=lane.id).update(path_id=path.id)

    _, stats = _run(capsys, "queue", "stats")

    (shown,) = stats["paths"]
    assert (shown["provider"], shown["source"], shown["pace"], shown["in_hand"]) == ("docomo", "192.0.2.10", 0.25, 2)
    assert shown["suspended_reason"] == "carrier-block"
    figures = exposition().decode()
    place = 'provider="docomo",source="192.0.2.10"'
    assert f"relayweb_path_pace_ratio{{{place}}} 0.25" in figures
    assert f"relayweb_path_in_hand_recipients{{{place}}} 2.0" in figures
    (rests,) = [line for line in figures.splitlines() if line.startswith("relayweb_path_suspended{")]
    assert 'reason="carrier-block"' in rests
    assert rests.endswith(" 1.0")

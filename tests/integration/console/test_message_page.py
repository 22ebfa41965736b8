"""The message page: for each recipient what happened, why, what we do, what one can do; then the proof."""

from __future__ import annotations

import html
import re
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from delivery import history, quiet_hours
from delivery.models import Lane, Message, Node, OwedDsn, Path, QueueEntry, Recipient, SourceAddress
from tests.support.journeys import CONTENT, EXAMPLES, Cast, Fate, write_message

BY_ADDRESS = {fate.address: fate for fate in EXAMPLES}


def _path(message: Message, query: str = "") -> str:
    return f"/t/acme/messages/{message.id}/{query}"


def _text(content: bytes) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", content.decode())).split())


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("taro@gmail.example", ["mx1.example.net accepted it at", "cannot be seen from here", "Nobody: it is settled"]),
        ("hana@docomo.example", ["docomo asks us to wait", "more slowly, for our address towards docomo", "Just wait"]),
        (
            "jiro@nosuch.example",
            ["“nosuch.example” does not exist", "We do not try this mail again.", "at look-up", "You"],
        ),
        ("unknown@corp.example", ["The receiving server says this address does not exist.", "rule enhanced-5.1.1"]),
        ("ken@corp.example", ["a report came back", "Accepted, then returned", "The receiving side"]),
        ("grey@school.example", ["puts off mail from senders", "We try again at", "Greylisted"]),
        ("dropped@old.example", ["Outcome unknown", "the next try makes a duplicate"]),
        ("slow@tar.example", ["Tried 6 times over", "The last reason was: Temporary trouble"]),
        ("new@waiting.example", ["as soon as its turn comes", "Just wait"]),
        ("now@waiting.example", ["Sending now"]),
        ("kept@lapsed.example", ["Reason: the sending domain is no longer verified", "You"]),
        ("stop@quiet.example", ["on the suppression list"]),
        ("oops@acme.example", ["Withdrawn by bob@acme.example at"]),
        (
            "blocked@icloud.example",
            ["iCloud does not take mail from our address", "We pause our address towards iCloud"],
        ),
        ("odd@strange.example", ["could not classify", "499 Computer says no"]),
    ],
)
def test_each_fate_is_told_in_plain_words(address: str, expected: list[str], cast: Cast, alice: Client) -> None:
    message = write_message(cast.acme, BY_ADDRESS[address])

    page = _text(alice.get(_path(message)).content)

    for sentence in expected:
        assert sentence in page


def test_what_rests_says_why_and_until_when(cast: Cast, alice: Client) -> None:
    until = datetime.now(tz=UTC) + timedelta(hours=8)
    message = write_message(cast.acme, BY_ADDRESS["new@waiting.example"])
    lane = Lane.objects.filter(pk=QueueEntry.objects.get().lane_id)

    lane.update(suspended_until=until, suspended_reason=quiet_hours.REASON)
    quiet = _text(alice.get(_path(message)).content)
    lane.update(suspended_until=until, suspended_reason="spam-content")
    refused = _text(alice.get(_path(message)).content)
    lane.update(suspended_until=datetime.now(tz=UTC) - timedelta(minutes=1))
    over = _text(alice.get(_path(message)).content)

    assert "Quiet hours of carriers until" in quiet
    assert "as its answers demanded; then it goes on by itself" in refused
    assert "rests until" not in over
    assert "Quiet hours" not in over


def test_a_deferred_recipient_is_promised_no_try_before_its_provider_has_rested(cast: Cast, alice: Client) -> None:
    until = datetime.now(tz=UTC) + timedelta(days=2)
    message = write_message(cast.acme, BY_ADDRESS["grey@school.example"])
    lane = Lane.objects.get(pk=QueueEntry.objects.get().lane_id)
    node, _ = Node.objects.get_or_create(name="node1")
    source = SourceAddress.objects.create(node=node, pool=lane.pool, address="192.0.2.10", ehlo_name="out.relay.test")
    path = Path.objects.create(source=source, group=lane.group, suspended_until=until, suspended_reason="reputation")

    resting = _text(alice.get(_path(message)).content)
    SourceAddress.objects.create(node=node, pool=lane.pool, address="192.0.2.11", ehlo_name="two.relay.test")
    with_another = _text(alice.get(_path(message)).content)

    assert "rests until" in resting
    assert f"{until.astimezone(ZoneInfo('Asia/Tokyo')):%Y-%m-%d}" in resting
    assert path.suspended_until == until
    assert "rests until" not in with_another


def test_no_placeholder_is_left_over_in_either_language(cast: Cast, signed_in) -> None:  # type: ignore[no-untyped-def]
    message = write_message(cast.acme, *EXAMPLES)

    for language in ("en", "ja"):
        page = _text(signed_in(cast.alice, language=language).get(_path(message)).content)
        assert not re.search(r"{[a-z_]*}", page)


def test_problems_come_first_and_the_answer_counts_them(cast: Cast, alice: Client) -> None:
    message = write_message(cast.acme, *EXAMPLES[:5])

    page = alice.get(_path(message)).content

    addresses = re.findall(r"<h2><bdi>([^<]*)</bdi></h2>", page.decode())
    assert set(addresses[:2]) == {"jiro@nosuch.example", "unknown@corp.example"}
    assert addresses[2] == "hana@docomo.example"
    assert "2 recipients were not reached. 1 is still under way. 2 were accepted" in _text(page)


def test_the_transcript_and_both_times_are_shown(cast: Cast, alice: Client) -> None:
    message = write_message(cast.acme, BY_ADDRESS["unknown@corp.example"])

    page = _text(alice.get(_path(message)).content)

    assert "RCPT TO:<unknown@corp.example>" in page
    assert "TLSv1.3" in page
    assert re.search(r"\d\d:\d\d:\d\d \(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC\)", page)


def test_many_recipients_come_in_pages_and_each_exactly_once(cast: Cast, alice: Client) -> None:
    fates = [Fate(address=f"r{number:02}@news.example") for number in range(43)] + [EXAMPLES[2]]
    message = write_message(cast.acme, *fates)
    seen, query = [], ""
    while True:
        page = alice.get(_path(message, query)).content.decode()
        seen.append(re.findall(r"<h2><bdi>([^<]*)</bdi></h2>", page))
        following = re.search(r'href="[^"]*(\?after=[^"]*)"', page)
        if not following:
            break
        query = following[1]

    assert [len(part) for part in seen] == [20, 20, 4]
    assert seen[0][0] == "jiro@nosuch.example"
    assert len({address for part in seen for address in part}) == 44


def test_the_recipient_whose_row_was_opened_comes_first(cast: Cast, alice: Client) -> None:
    message = write_message(cast.acme, *(Fate(address=f"r{number:02}@news.example") for number in range(30)))
    last = Recipient.objects.filter(message=message).order_by("id").last()
    assert last is not None

    page = alice.get(_path(message, f"?recipient={last.id}")).content.decode()

    assert re.findall(r"<h2><bdi>([^<]*)</bdi></h2>", page)[0] == last.address


def test_a_foreign_recipient_is_not_pinned(cast: Cast, alice: Client) -> None:
    other = write_message(cast.globex, Fate(address="secret@globex.example"))
    message = write_message(cast.acme, EXAMPLES[0])

    page = alice.get(_path(message, f"?recipient={other.recipients.get().id}")).content

    assert b"secret@globex.example" not in page


def test_the_way_back_keeps_the_filters(cast: Cast, alice: Client) -> None:
    message = write_message(cast.acme, EXAMPLES[2])
    log = alice.get("/t/acme/messages/?state=bounced&recipient=nosuch.example").content.decode()
    link = re.search(r'class="rw-open" href="([^"]*)"', log)
    assert link is not None

    page = alice.get(html.unescape(link[1])).content.decode()

    assert str(message.id) in link[1]
    assert 'href="/t/acme/messages/?state=bounced&amp;recipient=nosuch.example"' in page


def test_titles_hold_the_state_and_neither_subject_nor_address(cast: Cast, alice: Client) -> None:
    message = write_message(cast.acme, EXAMPLES[0], subject="confidential")

    title = re.search(r"<title>(.*?)</title>", alice.get(_path(message)).content.decode(), re.DOTALL)

    assert title is not None
    assert title[1].startswith("✓ Accepted by the receiving server")
    assert "confidential" not in title[1]
    assert "@" not in title[1]


# ---------------------------------------------------------------- content


def test_headers_are_shown_decoded_and_raw(cast: Cast, alice: Client) -> None:
    message = write_message(cast.acme, EXAMPLES[0])

    page = _text(alice.get(_path(message, "?view=headers")).content)

    assert "ご注文の確認 #1234" in page
    assert "=?utf-8?B?" in page


def test_text_is_shown_and_html_stands_in_a_sandboxed_frame(cast: Cast, alice: Client) -> None:
    message = write_message(cast.acme, EXAMPLES[0])

    page = alice.get(_path(message, "?view=preview")).content.decode()

    assert ".先頭が点の行です。" in page
    assert re.search(rf'<iframe[^>]* sandbox src="/t/acme/messages/{message.id}/html/"', page)
    assert "1 remote image or style was not loaded." in page
    assert "<script>document.title" not in page


def test_the_frame_runs_loads_and_leads_nowhere(cast: Cast, alice: Client) -> None:
    message = write_message(cast.acme, EXAMPLES[0])

    answer = alice.get(f"/t/acme/messages/{message.id}/html/")

    policy = answer["Content-Security-Policy"]
    for directive in ("sandbox", "default-src 'none'", "script-src 'none'", "img-src data:", "frame-ancestors 'self'"):
        assert directive in policy
    assert "allow-" not in policy
    assert answer["X-Frame-Options"] == "SAMEORIGIN"
    assert "明日" in answer.content.decode()
    assert b"script" not in answer.content
    assert b"img.acme.example" not in answer.content


def test_the_original_is_handed_out_byte_for_byte_as_a_download(cast: Cast, alice: Client) -> None:
    message = write_message(cast.acme, EXAMPLES[0])

    answer = alice.get(f"/t/acme/messages/{message.id}/eml/")

    assert answer.content == CONTENT
    assert answer["Content-Disposition"] == f'attachment; filename="{message.id}.eml"'
    assert answer["X-Content-Type-Options"] == "nosniff"


def test_content_that_is_gone_is_said_to_be_gone(cast: Cast, alice: Client) -> None:
    message = write_message(cast.acme, EXAMPLES[0], content=None)

    assert b"The content is not stored" in alice.get(_path(message, "?view=preview")).content
    assert b"The content is not stored" in alice.get(_path(message, "?view=headers")).content
    assert alice.get(f"/t/acme/messages/{message.id}/html/").status_code == 404
    assert alice.get(f"/t/acme/messages/{message.id}/eml/").status_code == 404
    assert alice.get(_path(message)).status_code == 200


# ---------------------------------------------------------------- live


def _live_path(content: bytes) -> str:
    found = re.search(r'id="answer".*?hx-get="([^"]*)"', content.decode(), re.DOTALL)
    assert found is not None
    return html.unescape(found[1])


def test_an_open_message_is_watched_until_it_is_settled(cast: Cast, alice: Client) -> None:
    message = write_message(cast.acme, BY_ADDRESS["new@waiting.example"])
    path = _live_path(alice.get(_path(message)).content)
    with CaptureQueriesContext(connection) as captured:
        assert alice.get(path).status_code == 204
    assert len(captured) <= 3

    QueueEntry.objects.filter(message_id=message.id).update(path_id=1)
    sending = alice.get(path)
    Recipient.objects.filter(message=message).update(
        state="delivered", state_since=datetime.now(tz=UTC), reply="250 OK", reply_code=250, host="mx.example"
    )
    QueueEntry.objects.filter(message_id=message.id).delete()
    settled = alice.get(_live_path(sending.content))

    assert "Sending now" in _text(sending.content)
    assert "mx.example accepted it at" in _text(settled.content)
    assert b"<html" not in settled.content
    assert b"data-live=" not in settled.content


def test_a_settled_message_is_not_watched(cast: Cast, alice: Client) -> None:
    message = write_message(cast.acme, EXAMPLES[0])

    assert b"data-live=" not in alice.get(_path(message)).content


def test_the_page_takes_few_queries_however_many_recipients(cast: Cast, alice: Client) -> None:
    message = write_message(cast.acme, *EXAMPLES, *(Fate(address=f"r{n}@news.example") for n in range(60)))

    for view in ("", "?view=headers", "?view=preview", "?view=identifiers"):
        with CaptureQueriesContext(connection) as captured:
            assert alice.get(_path(message, view)).status_code == 200
        assert len(captured) <= 15


# ---------------------------------------------------------------- for the command line


def test_a_message_is_shown_whole_with_every_attempt(cast: Cast) -> None:
    message = write_message(cast.acme, *EXAMPLES)

    shown = history.show_message(None, message.id)

    assert shown is not None
    assert len(shown.recipients) == len(EXAMPLES)
    expired = next(view for view in shown.recipients if view.row.recipient == "slow@tar.example")
    assert [attempt.number for attempt in expired.attempts] == [1, 2, 3, 4, 5, 6]
    assert expired.attempts[0].reply == "451 4.3.2 System is busy"
    assert expired.attempts[0].transcript[1].direction == "<"
    assert history.show_message(cast.globex, message.id) is None


@pytest.mark.parametrize("stored", [b"", b"not json", b"{}", b"[[1]]", b'"text"', b"\xff\xfe"])
def test_a_damaged_transcript_gives_no_lines(stored: bytes) -> None:
    assert history.read_transcript(stored) == ()


def test_it_shows_what_the_author_was_told_and_leads_to_the_report(cast: Cast, alice: Client) -> None:
    message = write_message(cast.acme, BY_ADDRESS[EXAMPLES[2].address])
    report = write_message(cast.acme, EXAMPLES[0], subject="Your mail could not be delivered")
    recipient = Recipient.objects.get(message_id=message.pk)
    moment = datetime.now(tz=UTC)
    common = {"tenant": cast.acme, "message_id": message.pk, "recipient_id": recipient.pk, "due_at": moment}
    OwedDsn.objects.create(
        **common, action="failed", happened_at=moment, written_at=moment, outcome="written", told_in=report.pk
    )
    OwedDsn.objects.create(**common, action="delayed", happened_at=moment)

    page = alice.get(f"/t/acme/messages/{message.pk}/").content.decode()

    assert "A report went to shop@acme.example: “Your mail could not be delivered”" in page
    assert "A report to shop@acme.example is being written: “Your mail is delayed”" in page
    assert f"/t/acme/messages/{report.pk}/?view=preview" in page

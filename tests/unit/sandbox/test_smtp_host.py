from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sandbox.certificates import server_context
from sandbox.in_process import ScriptedHosts, scripted_hosts
from sandbox.store import Kind

ADDRESS = "127.0.0.1"
CONTENT = "Subject: こんにちは\r\n\r\n..two dots\r\n.one\r\n".encode()
STUFFED = "Subject: こんにちは\r\n\r\n...two dots\r\n..one\r\n.\r\n".encode()

Connect = Callable[[str, int], Any]


def running(**table: Any) -> Any:
    return scripted_hosts({ADDRESS: table})


def open_to(hosts: ScriptedHosts, connect: Connect) -> Any:
    return connect(ADDRESS, hosts[ADDRESS].port)


def test_it_accepts_a_mail_and_keeps_the_bytes_that_were_meant(connect: Connect) -> None:
    with running() as hosts:
        client = open_to(hosts, connect)
        client.begin("a@x.test")

        answer = client.send(STUFFED)

        [mail] = hosts.wait_for(1)
    assert answer == f"250 2.0.0 Accepted as {mail.id}"
    assert mail.content == CONTENT
    assert (mail.reverse_path, mail.recipients) == ("bounce@relay.test", ("a@x.test",))
    assert (mail.kind, mail.ehlo, mail.peer, mail.tls) == (Kind.ACCEPTED, "relay.test", "127.0.0.1", None)


def test_it_takes_a_whole_group_of_commands_at_once(connect: Connect) -> None:
    with running() as hosts:
        client = open_to(hosts, connect)
        client.reply()
        assert "PIPELINING" in client.ask("EHLO relay.test")

        client.say(b"MAIL FROM:<> SIZE=100 BODY=8BITMIME\r\nRCPT TO:<a@x.test>\r\nRCPT TO:<b@x.test>\r\nDATA\r\n")

        assert [client.reply()[:3] for _ in range(4)] == ["250", "250", "250", "354"]
        client.say(STUFFED + b"MAIL FROM:<c@x.test>\r\n")
        assert [client.reply()[:3] for _ in range(2)] == ["250", "250"]
        assert hosts.mails[0].recipients == ("a@x.test", "b@x.test")
        assert hosts.mails[0].parameters == ("SIZE=100", "BODY=8BITMIME")


def test_a_refused_recipient_is_left_out_and_the_others_get_the_mail(connect: Connect) -> None:
    rules = [{"at": "rcpt", "recipient": "bad@*", "reply": "550 5.1.1 <{recipient}> is not here\n5.1.1 Sorry"}]
    with running(rules=rules) as hosts:
        client = open_to(hosts, connect)

        assert client.begin("bad@x.test") == "550 5.1.1 <bad@x.test> is not here\n5.1.1 Sorry"
        assert client.ask("DATA").startswith("554")
        assert client.ask("RCPT TO:<good@x.test>").startswith("250")
        client.send(STUFFED)

        assert hosts.mails[0].recipients == ("good@x.test",)


def test_what_is_refused_after_the_dot_is_not_kept(connect: Connect) -> None:
    with running(rules=[{"at": "eod", "reply": "554 5.7.1 Spam"}]) as hosts:
        client = open_to(hosts, connect)
        client.begin("a@x.test")

        assert client.send(STUFFED) == "554 5.7.1 Spam"
        assert hosts.mails == []


def test_a_mail_dropped_after_the_dot_is_recorded_as_such_and_accepted_the_next_time(connect: Connect) -> None:
    with running(rules=[{"at": "eod", "times": 1, "then": "close"}]) as hosts:
        first, second = open_to(hosts, connect), open_to(hosts, connect)
        first.begin("a@x.test")
        second.begin("a@x.test")

        answers = [first.send(STUFFED), second.send(STUFFED)[:3]]

        assert answers == ["", "250"]
        assert [mail.kind for mail in hosts.mails] == [Kind.DROPPED, Kind.ACCEPTED]
        assert [mail.content for mail in hosts.wait_for(1)] == [CONTENT]


def test_a_connection_dropped_inside_the_content_leaves_nothing(connect: Connect) -> None:
    with running(rules=[{"at": "content", "after_bytes": 10, "then": "reset"}]) as hosts:
        client = open_to(hosts, connect)
        client.begin("a@x.test")
        client.ask("DATA")

        client.say(b"x" * 20)

        assert client.reply() == ""
        assert hosts.mails == []


def test_a_greeting_can_refuse_or_reset(connect: Connect) -> None:
    rules = [{"at": "connect", "times": 1, "reply": "554 5.7.1 Blocked [{peer}]"}, {"at": "connect", "then": "reset"}]
    with running(rules=rules) as hosts:
        refused = open_to(hosts, connect)

        assert refused.reply() == "554 5.7.1 Blocked [127.0.0.1]"
        assert refused.reply() == ""
        try:
            after = open_to(hosts, connect).reply()
        except ConnectionResetError:  # it may come before connect() has returned
            after = ""
        assert after == ""


def test_a_late_reply_is_late(connect: Connect) -> None:
    with running(rules=[{"at": "connect", "delay_s": 0.2}], byte_delay_s=0.001) as hosts:
        started = time.monotonic()

        assert open_to(hosts, connect).reply().startswith("220 ")
        assert time.monotonic() - started >= 0.2


def test_starttls_encrypts_and_forgets_what_was_said_before(connect: Connect, tmp_path: Path) -> None:
    with scripted_hosts({ADDRESS: "accept"}, tls=server_context(tmp_path, ["*.hosts.test"])) as hosts:
        client = open_to(hosts, connect)
        client.reply()
        assert "STARTTLS" in client.ask("EHLO relay.test")
        assert client.ask("STARTTLS").startswith("220")

        client.start_tls()

        assert client.ask("MAIL FROM:<>").startswith("503")
        assert "STARTTLS" not in client.ask("EHLO relay.test")
        client.ask("MAIL FROM:<>")
        client.ask("RCPT TO:<a@x.test>")
        client.send(STUFFED)
        [mail] = hosts.wait_for(1)
    assert mail.tls is not None
    assert mail.tls["version"] == "TLSv1.3"


def test_commands_smuggled_behind_starttls_are_cut_off(connect: Connect, tmp_path: Path) -> None:
    with scripted_hosts({ADDRESS: "accept"}, tls=server_context(tmp_path, ["*.hosts.test"])) as hosts:
        client = open_to(hosts, connect)
        client.reply()
        client.ask("EHLO relay.test")

        client.say(b"STARTTLS\r\nEHLO smuggled\r\n")

        assert client.reply().startswith("554 5.5.0")
        assert client.reply() == ""


@pytest.mark.parametrize("mode", ["broken", "refused"])
def test_tls_can_be_offered_and_not_work(connect: Connect, mode: str) -> None:
    with running(tls=mode) as hosts:
        client = open_to(hosts, connect)
        client.reply()
        assert "STARTTLS" in client.ask("EHLO relay.test")

        answer = client.ask("STARTTLS")

        if mode == "refused":
            assert answer.startswith("454 4.7.0")
            assert client.ask("NOOP").startswith("250")
        else:
            with pytest.raises(OSError, match=r"(?i)alert|handshake"):
                client.start_tls()


def test_a_host_can_insist_on_tls(connect: Connect) -> None:
    with running(rules=[{"at": "mail", "without_tls": True, "reply": "530 5.7.0 Must issue STARTTLS"}]) as hosts:
        client = open_to(hosts, connect)
        client.reply()
        client.ask("EHLO relay.test")

        assert client.ask("MAIL FROM:<>") == "530 5.7.0 Must issue STARTTLS"


def test_without_pipelining_who_does_not_wait_is_cut_off(connect: Connect) -> None:
    with running(without=["PIPELINING"]) as hosts:
        client = open_to(hosts, connect)
        client.reply()
        assert "PIPELINING" not in client.ask("EHLO relay.test")

        client.say(b"MAIL FROM:<>\r\nRCPT TO:<a@x.test>\r\n")

        assert client.reply().startswith("554 5.5.0")
        assert client.reply() == ""


def test_a_seven_bit_host_refuses_octets_that_it_did_not_offer_to_take(connect: Connect) -> None:
    with running(without=["8BITMIME", "SMTPUTF8"]) as hosts:
        client = open_to(hosts, connect)
        client.begin("a@x.test")

        assert client.send(STUFFED).startswith("554 5.6.3")
        assert hosts.mails == []


def test_a_size_limit_holds_at_mail_and_at_the_end_of_data(connect: Connect) -> None:
    with running(size_limit=10) as hosts:
        client = open_to(hosts, connect)
        client.reply()
        assert "SIZE 10" in client.ask("EHLO relay.test").split("\n")

        assert client.ask("MAIL FROM:<> SIZE=11").startswith("552 5.3.4")
        client.ask("MAIL FROM:<> SIZE=10")
        client.ask("RCPT TO:<a@x.test>")
        assert client.send(b"0123456789\r\n.\r\n").startswith("552 5.3.4")
        assert client.ask("MAIL FROM:<>").startswith("250")
        assert hosts.mails == []


def test_an_old_host_knows_only_helo(connect: Connect) -> None:
    with running(knows_ehlo=False) as hosts:
        client = open_to(hosts, connect)
        client.reply()

        assert client.ask("EHLO relay.test").startswith("500")
        assert client.ask("HELO relay.test").startswith("250")


def test_limits_on_connections_recipients_and_mails_hold(connect: Connect) -> None:
    with running(max_connections=1, max_recipients=1, mails_per_connection=1) as hosts:
        client = open_to(hosts, connect)
        client.begin("a@x.test")

        assert open_to(hosts, connect).reply().startswith("421 4.7.0")
        assert client.ask("RCPT TO:<b@x.test>").startswith("452 4.5.3")
        assert client.send(STUFFED).startswith("250")
        assert client.ask("MAIL FROM:<>").startswith("421 4.7.0")
        assert client.reply() == ""


@pytest.mark.parametrize(
    "line",
    [
        b"MAIL FROM: <a@x.test>",
        b"MAIL FROM:a@x.test",
        b"MAIL FROM:<a@x.test>SIZE=1",
        b"MAIL FROM:<a b@x.test>",
        b"MAIL FROM:<a@x.test> UNHEARD=1",
        b"MAIL FROM:<a@x.test> BODY=BINARYMIME",
        b"MAIL TO:<a@x.test>",
        b"RCPT TO:<a@x.test>",
        b"DATA",
        b"NOOP\nMAIL FROM:<>",
        b"HELLO",
    ],
)
def test_a_client_that_breaks_the_rules_is_told_so(connect: Connect, line: bytes) -> None:
    with running() as hosts:
        client = open_to(hosts, connect)
        client.reply()
        client.ask("EHLO relay.test")

        client.say(line + b"\r\n")

        assert client.reply().startswith("5")
        assert client.ask("NOOP").startswith("250")


def test_a_quoted_local_part_may_hold_what_would_end_the_path(connect: Connect) -> None:
    with running() as hosts:
        client = open_to(hosts, connect)
        client.begin('"a> b"@x.test')
        client.send(STUFFED)

        assert hosts.mails[0].recipients == ('"a> b"@x.test',)


def test_a_client_that_sends_no_more_still_gets_its_last_reply(connect: Connect) -> None:
    with running() as hosts:
        client = open_to(hosts, connect)
        client.begin("a@x.test")
        client.ask("DATA")
        client.say(STUFFED)

        client.socket.shutdown(socket.SHUT_WR)

        assert client.reply().startswith("250")
        assert len(hosts.wait_for(1)) == 1


def test_silence_lasts_until_the_client_leaves(connect: Connect) -> None:
    with running(rules=[{"at": "eod", "then": "hang"}]) as hosts:
        client = open_to(hosts, connect)
        client.begin("a@x.test")
        client.ask("DATA")
        client.say(STUFFED)
        client.socket.settimeout(0.2)

        with pytest.raises(TimeoutError):
            client.reply()
        assert [mail.kind for mail in hosts.mails] == [Kind.DROPPED]


def test_stopping_tells_the_clients(connect: Connect) -> None:
    with running() as hosts:
        client = open_to(hosts, connect)
        client.begin("a@x.test")

    assert client.reply().startswith("421 4.3.2")
    assert client.reply() == ""

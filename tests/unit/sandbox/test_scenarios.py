from __future__ import annotations

from pathlib import Path

import pytest

from sandbox.layout import lay_out
from sandbox.scenarios import CLASSES, Then, behaviour_from, mailboxes, read_scenarios

LINES_OF_A_NEW_BEHAVIOUR = """
[behaviours.grumpy]
en = "Refuses on Mondays"
expect = { state = "bounced", class = "policy" }
rules = [{ at = "rcpt", reply = "550 5.7.1 Not on a Monday" }]
"""


def test_the_built_in_behaviours_cover_what_the_quick_start_promises() -> None:
    listed = {box["behaviour"] for box in mailboxes(read_scenarios().values())}

    promised = {"accept", "unknown-user", "mailbox-full", "greylist", "temporary-failure", "slow", "drop-after-data"}
    promised |= {"ip-block", "tls-broken", "null-mx", "nxdomain", "inbox"}
    assert promised <= listed
    assert len(listed) >= 22


def test_every_listed_mailbox_says_its_behaviour_and_what_to_expect_in_both_languages() -> None:
    for box in mailboxes(read_scenarios().values()):
        assert box["address"] == f"{box['behaviour']}@{box['behaviour']}.sandbox.test"
        assert box["en"] and box["ja"]
        assert box["expect"]["class"] is None or box["expect"]["class"] in CLASSES
        assert (box["expect"]["class"] is None) == (box["expect"]["state"] == "delivered")


def test_every_behaviour_has_hosts_and_addresses_of_its_own() -> None:
    layout = lay_out(read_scenarios(), name_server_address="127.0.0.1")

    addresses = [host.address for host in layout.hosts]
    assert len(addresses) == len(set(addresses))
    assert all(address.startswith("127.64.") for address in addresses)


def test_a_new_behaviour_is_a_few_lines_of_data(tmp_path: Path) -> None:
    file = tmp_path / "more.toml"
    file.write_text(LINES_OF_A_NEW_BEHAVIOUR)

    behaviours = read_scenarios(file)

    assert list(behaviours)[-1] == "grumpy"
    assert behaviours["grumpy"].address == "grumpy@grumpy.sandbox.test"


def test_a_file_overrides_a_built_in_behaviour_and_leaves_the_addresses_as_they_were(tmp_path: Path) -> None:
    file = tmp_path / "more.toml"
    file.write_text(LINES_OF_A_NEW_BEHAVIOUR.replace("grumpy", "accept"))

    behaviours = read_scenarios(file)

    before = lay_out(read_scenarios(), name_server_address="127.0.0.1")
    after = lay_out(behaviours, name_server_address="127.0.0.1")
    assert behaviours["accept"].expected_state == "bounced"
    assert [host.address for host in after.hosts] == [host.address for host in before.hosts]


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ({"colour": "red"}, "unknown key colour"),
        ({"expect": {"state": "arrived"}}, "'arrived' does not exist"),
        ({"expect": {"class": "bad"}}, "'bad' does not exist"),
        ({"rules": [{"reply": "550 No"}]}, "'at' is missing"),
        ({"rules": [{"at": "lunch"}]}, "at is one of connect, ehlo"),
        ({"rules": [{"at": "rcpt", "reply": "No"}]}, "begins with its code"),
        ({"rules": [{"at": "rcpt", "times": -1}]}, "not negative"),
        ({"rules": [{"at": "rcpt", "counted_by": ["moon"]}]}, "not moon"),
        ({"rules": [{"at": "mail", "recipient": "a*"}]}, "no recipient is known at mail"),
        ({"hosts": [{"address": "localhost"}]}, "not an IP address"),
        ({"tls": "maybe"}, "tls is one of"),
        ({"size_limit": "big"}, "a whole number is expected"),
    ],
)
def test_a_mistake_in_the_data_is_refused_with_a_sentence(table: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint) as refusal:
        behaviour_from("odd", table)

    assert str(refusal.value).startswith("behaviour 'odd'")


def test_a_421_closes_the_connection_unless_the_data_say_otherwise() -> None:
    rules = [{"at": "mail", "reply": "421 Busy"}, {"at": "rcpt", "reply": "421 Busy", "then": "continue"}]

    behaviour = behaviour_from("busy", {"rules": rules})

    assert [rule.then for rule in behaviour.rules] == [Then.CLOSE, Then.CONTINUE]

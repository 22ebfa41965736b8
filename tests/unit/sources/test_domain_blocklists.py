"""Answers of domain blocklists: only documented ones are listings, and error codes never are."""

from __future__ import annotations

import pytest

from delivery.domain_blocklists.asking import domain_lists, read
from delivery.source_checks.blocklists import Answer


@pytest.mark.parametrize(
    ("key", "answered", "answer", "severity"),
    [
        ("spamhaus_dbl", [], Answer.CLEAR, None),
        ("spamhaus_dbl", ["127.0.1.2"], Answer.LISTED, "severe"),
        ("spamhaus_dbl", ["127.0.1.102"], Answer.LISTED, "bad"),
        ("spamhaus_dbl", ["127.0.1.3"], Answer.FAILED, None),
        ("spamhaus_dbl", ["127.0.1.255"], Answer.FAILED, None),
        ("spamhaus_dbl", ["127.255.255.254"], Answer.FAILED, None),
        ("spamhaus_dbl", ["127.0.1.2", "127.255.255.252"], Answer.FAILED, None),
        ("surbl", ["127.0.0.80"], Answer.LISTED, "severe"),
        ("surbl", ["127.0.0.128"], Answer.LISTED, "bad"),
        ("surbl", ["127.0.0.1"], Answer.FAILED, None),
        ("surbl", ["127.0.0.4"], Answer.FAILED, None),
        ("surbl", ["192.0.2.80"], Answer.FAILED, None),
        ("uribl", ["127.0.0.1"], Answer.FAILED, None),
        ("uribl", ["127.0.0.4"], Answer.LISTED, "minor"),
        ("uribl", ["127.0.0.14"], Answer.LISTED, "severe"),
    ],
)
def test_an_answer_means_what_the_list_documents(key: str, answered: list[str], answer: Answer, severity: str) -> None:
    found = read(domain_lists()[key], answered)

    assert (found.answer, found.severity) == (answer, severity)

"""A short run of bench/fuzz.py: whatever a stranger sends, every reader understands it or refuses it as it documents."""

from __future__ import annotations

import random
import sys
from itertools import islice

import pytest

from tests.conftest import ROOT

sys.path.insert(0, str(ROOT))

from bench.fuzz import Reader, attempt, mutations, readers

READERS = readers()
EXAMPLES = 120


@pytest.mark.parametrize("name", sorted(READERS))
def test_no_octets_raise_what_a_reader_does_not_document(name: str) -> None:
    reader = READERS[name]

    for octets in islice(mutations(reader.samples, random.Random(name)), EXAMPLES):
        attempt(reader, octets)


def test_the_hunt_notices_what_it_hunts() -> None:
    def careless(octets: bytes) -> None:
        if b"\0" in octets:
            raise KeyError("nul")

    reader = Reader(careless, (ValueError,), [b"abc"])

    with pytest.raises(Exception, match="nul"):
        for octets in islice(mutations(reader.samples, random.Random(1)), 2000):
            attempt(reader, octets)

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import RFC_4122, uuid4

import pytest

from accounts.identifiers import first_of, time_of, uuid7, uuid7_at

NOW = datetime(2026, 11, 24, 5, 32, 7, 123456, tzinfo=UTC)


def test_a_key_is_a_version_7_uuid_that_knows_its_time() -> None:
    key = uuid7(NOW)

    assert (key.version, key.variant) == (7, RFC_4122)
    assert time_of(key) == NOW.replace(microsecond=123000)


def test_keys_sort_by_time_down_to_the_microsecond() -> None:
    moments = [NOW + timedelta(microseconds=step) for step in range(200)]

    keys = [uuid7(moment) for moment in moments]

    assert keys == sorted(keys)


def test_keys_of_one_moment_differ() -> None:
    assert len({uuid7(NOW) for _ in range(1000)}) == 1000


def test_a_child_shares_the_millisecond_of_its_message_and_nothing_else() -> None:
    message_id = uuid7(NOW)

    children = {uuid7_at(message_id) for _ in range(100)}

    assert len(children | {message_id}) == 101
    assert {time_of(child) for child in children} == {time_of(message_id)}
    assert {child.version for child in children} == {7}


def test_a_bound_lies_before_every_key_of_its_millisecond_and_after_the_one_before() -> None:
    bound = first_of(NOW)

    assert uuid7(NOW - timedelta(milliseconds=1)) < bound < uuid7(NOW.replace(microsecond=123000))


def test_without_a_time_the_clock_is_asked() -> None:
    assert abs(time_of(uuid7()) - datetime.now(UTC)) < timedelta(minutes=1)


def test_only_version_7_carries_a_time() -> None:
    with pytest.raises(ValueError):
        time_of(uuid4())

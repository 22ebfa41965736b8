from __future__ import annotations

from collections import Counter

from delivery.engine.ownership import owner_of

SLOTS = {f"node1/worker-{number}" for number in range(1, 5)}
PATHS = range(1, 2001)


def test_everybody_computes_the_same_owner():
    assert [owner_of(path, sorted(SLOTS)) for path in PATHS] == [
        owner_of(path, sorted(SLOTS, reverse=True)) for path in PATHS
    ]


def test_paths_are_shared_about_equally():
    counts = Counter(owner_of(path, SLOTS) for path in PATHS)

    assert counts.keys() == SLOTS
    assert min(counts.values()) > 0.8 * len(PATHS) / len(SLOTS)


def test_only_the_paths_of_a_worker_that_goes_change_hands():
    before = {path: owner_of(path, SLOTS) for path in PATHS}
    after = {path: owner_of(path, SLOTS - {"node1/worker-3"}) for path in PATHS}

    assert {before[path] for path in PATHS if before[path] != after[path]} == {"node1/worker-3"}


def test_nobody_drives_anything_where_nobody_lives():
    assert owner_of(1, []) is None

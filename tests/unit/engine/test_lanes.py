from __future__ import annotations

from collections import Counter
from itertools import count
from uuid import UUID

from delivery.engine.lanes import LaneBoard
from delivery.queue.claim import DueLane

POOL, SOURCE, OTHER_SOURCE = UUID(int=1), UUID(int=2), UUID(int=3)
GROUP = 7
_ids = count(1)


def lane(tenant: int, *, pinned_to: UUID | None = None, group: int = GROUP) -> DueLane:
    number = next(_ids)
    return DueLane(
        id=number,
        pool_id=POOL,
        group_id=group,
        group_kind="site",
        group_key="site:mx.far.test",
        tenant_id=UUID(int=tenant),
        stream_id=UUID(int=number),
        stream_kind="transactional",
        pinned_source_id=pinned_to,
        quiet_from=None,
        quiet_until=None,
        quiet_streams="bulk",
        time_zone="UTC",
    )


def board_with(*lanes: DueLane) -> LaneBoard:
    board = LaneBoard()
    board.replace(lanes)
    return board


def shares(board: LaneBoard, permits: int, source: UUID = SOURCE) -> dict[int, int]:
    return {want.lane_id: want.most for want in board.share(POOL, GROUP, source, permits)}


def test_permits_are_divided_equally_by_tenant_and_then_by_lane():
    a, b1, b2 = lane(1), lane(2), lane(2)

    assert shares(board_with(a, b1, b2), 8) == {a.id: 4, b1.id: 2, b2.id: 2}


def test_one_lane_gets_everything():
    only = lane(1)

    assert shares(board_with(only), 10) == {only.id: 10}


def test_single_permits_go_round():
    lanes = [lane(tenant) for tenant in range(1, 5)]
    board = board_with(*lanes)

    turns = [next(iter(shares(board, 1))) for _ in range(8)]

    assert Counter(turns) == {one.id: 2 for one in lanes}
    assert turns[:4] == turns[4:]


def test_a_tenant_with_many_lanes_gets_no_more_turns_than_one_with_one():
    many, single = [lane(1) for _ in range(20)], lane(2)
    board = board_with(*many, single)

    turns = Counter(next(iter(shares(board, 1))) for _ in range(40))

    assert turns[single.id] >= 15


def test_what_does_not_divide_goes_round_too():
    a, b = lane(1), lane(2)
    board = board_with(a, b)

    total = Counter[int]()
    for _ in range(10):
        total.update(shares(board, 3))

    assert total == {a.id: 15, b.id: 15}


def test_who_comes_later_waits_for_one_turn_of_the_others():
    board = board_with(*(lane(tenant) for tenant in range(1, 4)))
    for _ in range(5):
        shares(board, 1)
    late = lane(9)
    board.replace([*(board._lanes[POOL, GROUP].values()), late])

    turns = [next(iter(shares(board, 1))) for _ in range(4)]

    assert late.id in turns


def test_known_lanes_keep_their_place_when_the_board_is_renewed():
    first, second = lane(1), lane(2)
    board = board_with(first, second)
    assert list(shares(board, 1)) == [first.id]

    board.replace([first, second])

    assert list(shares(board, 1)) == [second.id]


def test_lanes_pinned_to_another_source_are_left():
    pinned, free = lane(1, pinned_to=OTHER_SOURCE), lane(2)
    board = board_with(pinned, free)

    assert shares(board, 4) == {free.id: 4}
    assert shares(board, 4, OTHER_SOURCE) == {pinned.id: 2, free.id: 2}
    assert not board_with(pinned).has_work(POOL, GROUP, SOURCE)
    assert board_with(pinned).has_work(POOL, GROUP, OTHER_SOURCE)
    drained = board.share(POOL, GROUP, OTHER_SOURCE, 4, is_draining=True)
    assert [(want.lane_id, want.most) for want in drained] == [(pinned.id, 4)]
    assert not board_with(free).has_work(POOL, GROUP, OTHER_SOURCE, is_draining=True)


def test_lanes_that_gave_less_leave_the_board_until_it_is_renewed():
    empty, full = lane(1), lane(2)
    board = board_with(empty, full)

    board.drop(POOL, GROUP, [empty.id])

    assert shares(board, 4) == {full.id: 4}
    board.replace([empty, full])
    assert set(shares(board, 4)) == {empty.id, full.id}


def test_each_renewal_is_counted():
    board = board_with(lane(1))
    before = board.generation

    board.replace([])

    assert board.generation == before + 1
    assert shares(board, 3) == {}

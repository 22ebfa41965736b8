"""Whose turn it is: the lanes with something due, shared out fairly.

Tenants take turns, and within a tenant its streams: whoever has one mail waits for at most one turn of the others, not for
their backlog. The order is kept in memory; what is due is read from the database when the doorbell rings.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from uuid import UUID

from delivery.queue.claim import DueLane, Want

_Key = tuple[UUID, int]  # pool, provider group


class LaneBoard:
    def __init__(self) -> None:
        self._lanes: dict[_Key, OrderedDict[int, DueLane]] = {}
        self.generation = 0

    def replace(self, lanes: Iterable[DueLane]) -> None:
        """What the database says is due now. Lanes that were known keep their place in the order.

        ``generation`` counts these answers: what was found out before one does not speak against it.
        """
        self.generation += 1
        fresh: dict[_Key, OrderedDict[int, DueLane]] = {}
        for lane in lanes:
            fresh.setdefault((lane.pool_id, lane.group_id), OrderedDict())[lane.id] = lane
        for key, known in self._lanes.items():
            if key in fresh:
                kept = OrderedDict((lane_id, fresh[key][lane_id]) for lane_id in known if lane_id in fresh[key])
                kept.update(fresh[key])
                fresh[key] = kept
        self._lanes = fresh

    def has_work(self, pool_id: UUID, group_id: int, source_id: UUID, *, is_draining: bool = False) -> bool:
        return any(_may_use(lane, source_id, is_draining) for lane in self._lanes.get((pool_id, group_id), {}).values())

    def share(
        self, pool_id: UUID, group_id: int, source_id: UUID, permits: int, *, is_draining: bool = False
    ) -> list[Want]:
        """Divide ``permits`` among the lanes a source may serve: equally by tenant, then equally by lane.

        What does not divide goes to those whose turn it is; who got it goes to the end of the line, behind those who got less.
        """
        board = self._lanes.get((pool_id, group_id), OrderedDict())
        by_tenant: OrderedDict[UUID, list[DueLane]] = OrderedDict()
        for lane in board.values():
            if _may_use(lane, source_id, is_draining):
                by_tenant.setdefault(lane.tenant_id, []).append(lane)
        wants: list[Want] = []
        shares = zip(by_tenant.values(), _divide(permits, len(by_tenant)), strict=True)
        for tenant_lanes, share in sorted(shares, key=lambda one: one[1]):
            parts = zip(tenant_lanes, _divide(share, len(tenant_lanes)), strict=True)
            for lane, part in sorted(parts, key=lambda one: one[1]) if share else ():
                board.move_to_end(lane.id)
                if part:
                    wants.append(Want(lane.id, part))
        return wants

    def drop(self, pool_id: UUID, group_id: int, lane_ids: Iterable[int]) -> None:
        """These lanes gave less than they were asked for: nothing is due in them until the doorbell rings again."""
        board = self._lanes.get((pool_id, group_id))
        if board is not None:
            for lane_id in lane_ids:
                board.pop(lane_id, None)


def _may_use(lane: DueLane, source_id: UUID, is_draining: bool) -> bool:
    """An address that is drained serves what is pinned to it, and nothing else."""
    return lane.pinned_source_id == source_id or (lane.pinned_source_id is None and not is_draining)


def _divide(total: int, parts: int) -> list[int]:
    if parts == 0:
        return []
    each, rest = divmod(total, parts)
    return [each + (1 if position < rest else 0) for position in range(parts)]

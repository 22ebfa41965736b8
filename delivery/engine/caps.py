"""What the warm-up of a source address allows on its paths at present.

Asked when a path is taken and with each renewal of the leases. An address with a plan is capped from its first mail to any
group, also before anybody has written down the warm-up towards that group: it is then at the first stage.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg

from delivery.shaping.windows import Rate
from delivery.warmup.schedules import WARMED_KINDS, made_for, schedules

Connection = psycopg.AsyncConnection[Any]

_CAPS = """
SELECT path.id, grp.key, coalesce(warm_up.schedule, plan.schedule), coalesce(warm_up.stage, 0)
FROM delivery_path AS path
JOIN delivery_providergroup AS grp ON grp.id = path.group_id AND grp.kind = ANY(%s)
LEFT JOIN delivery_warmup AS warm_up ON warm_up.source_id = path.source_id AND warm_up.group_id = path.group_id
LEFT JOIN delivery_warmupplan AS plan ON plan.source_id = path.source_id AND plan.is_running
WHERE path.id = ANY(%s) AND (warm_up.state = 'running' OR (warm_up.id IS NULL AND plan.id IS NOT NULL))
"""


async def read(connection: Connection, path_ids: Sequence[int]) -> dict[int, Rate]:
    """By path; a path that is missing is not being warmed up."""
    if not path_ids:
        return {}
    rows = await (await connection.execute(_CAPS, [list(WARMED_KINDS), list(path_ids)])).fetchall()
    return {
        path_id: (schedules().get(schedule) or made_for(group_key)).limit(stage)
        for path_id, group_key, schedule, stage in rows
    }

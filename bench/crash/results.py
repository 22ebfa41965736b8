"""Results: a line of JSON for each period of load, and the table of many of them."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.crash.checking import Verdict
from bench.support.surroundings import percentile

Record = dict[str, Any]
_HEAD = (
    "fault", "rounds", "kills", "messages", "accepted", "lost", "duplicated", "allowed", "forbidden", "unmarked", "other",
    "recovery p50", "max", "progress max", "stranded max",
)  # fmt: skip


def record(fault: str, verdict: Verdict, *, rounds: int, seed: str, postgresql: Mapping[str, str]) -> Record:
    return {
        "fault": fault,
        "rounds": rounds,
        "seed": seed,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        **verdict.as_record(),
        "machine": {
            "cores": len(os.sched_getaffinity(0)),
            "load": round(os.getloadavg()[0], 1),
            "linux": platform.release(),
            "python": platform.python_version(),
            "postgresql": dict(postgresql),
        },
    }


def append(path: Path | None, record: Record) -> None:
    if path is None:
        return
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record, ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())


def write_log(path: Path, lines: list[str]) -> None:
    """Adds the lines to the file and forgets them."""
    written = list(lines)
    del lines[: len(written)]
    with path.open("a", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in written)


def read(path: Path) -> list[Record]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def sentence(record: Record) -> str:
    told = f"{record['fault']}: {record['rounds']} rounds, {record['accepted']} of {record['messages']} accepted, "
    told += f"{record['lost']} lost, {record['duplicated']} duplicated ({record['allowed']} allowed)"
    return told + ("" if record["is_kept"] else f" — BROKEN: {json.dumps(_broken(record))}")


def _broken(record: Record) -> Record:
    return {"examples": record["examples"], "longest_stranded_s": record["longest_stranded_s"]}


def table(records: Iterable[Record]) -> str:
    """In Markdown, a line for each fault. Times in seconds."""
    by_fault: dict[str, list[Record]] = {}
    for one in records:
        by_fault.setdefault(one["fault"], []).append(one)
    rows = [_HEAD, *(_row(fault, several) for fault, several in by_fault.items())]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join(lines)


def _row(fault: str, records: list[Record]) -> tuple[str, ...]:
    def total(name: str) -> int:
        return sum(int(record.get(name, 0)) for record in records)

    recoveries = [seconds for record in records for seconds in record["recoveries_s"]]
    progress = [seconds for record in records for seconds in record["progress_s"]]
    others = ("unlabelled", "invented", "mismatched", "final_twice", "untold", "refused_for_good", "never_back")
    return (
        fault,
        *(
            f"{total(name):,}"
            for name in (
                "rounds",
                "kills",
                "messages",
                "accepted",
                "lost",
                "duplicated",
                "allowed",
                "forbidden",
                "unmarked",
            )
        ),
        f"{sum(map(total, others)):,}",
        f"{percentile(recoveries, 0.5):.1f}" if recoveries else "–",
        f"{max(recoveries):.1f}" if recoveries else "–",
        f"{max(progress):.1f}" if progress else "–",
        f"{max(record['longest_stranded_s'] for record in records):.1f}",
    )

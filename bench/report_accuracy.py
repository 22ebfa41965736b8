"""How well returned mail is understood: one line of JSON about a collection of labelled samples.

    python bench/report_accuracy.py [DIRECTORY]        (../shared/bounces beside the repository unless given)

DIRECTORY has `emails/*.eml` and `labels.json`: file name → one row per failed recipient, in order, with `class` and
`hard`. Files without a label are no reports, and must not be called bounces.

- found_percent       files with as many recipients as labelled, each with an address (complaints may be redacted)
- class_percent       rows whose class is the labelled one
- hard_precision_percent, hard_recall_percent   rows called dead that are, and dead rows that are called so
- false_bounces       files that are no bounce and are called one
- slowest_ms          the longest reading of one file, in time of the processor
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from delivery.core.reports import Kind, ReportedRecipient  # noqa: E402
from delivery.reports.reading import read_returned_file  # noqa: E402

SAMPLES = ROOT.parent / "shared" / "bounces"
# Classes only we have, and what they count as.
OURS = {"greylist": {"transient", "policy"}, "loop": {"transient", "policy"}, "expired": {"transient", "policy"}}
NO_ADDRESS_NEEDED = {"complaint", "auto_reply"}
NO_BOUNCE = {"complaint", "auto_reply", "delivered"}


@dataclass
class Score:
    files: int = 0
    found: int = 0
    rows: int = 0
    right: int = 0
    called_hard: int = 0
    rightly_hard: int = 0
    hard: int = 0
    false_bounces: int = 0
    slowest_ms: float = 0.0
    misses: list[str] = field(default_factory=list)

    def add(self, name: str, labels: list[dict[str, Any]], rows: list[ReportedRecipient]) -> None:
        if not labels or all(label["class"] in NO_BOUNCE for label in labels):
            self.false_bounces += any(row.kind is Kind.BOUNCE for row in rows)
        if not labels:
            return
        self.files += 1
        self.found += is_found(labels, rows)
        for index, label in enumerate(labels):
            self._add_row(name, label, rows[index] if index < len(rows) else None)

    def _add_row(self, name: str, label: dict[str, Any], row: ReportedRecipient | None) -> None:
        is_right = row is not None and label["class"] in OURS.get(row.class_word, {row.class_word})
        self.rows += 1
        self.right += is_right
        self.hard += label["hard"]
        if row is not None and row.is_hard:
            self.called_hard += 1
            self.rightly_hard += label["hard"]
        if not is_right:
            self.misses.append(f"{name}: {label['class']} read as {row.class_word if row else 'nothing'}")

    def summary(self) -> dict[str, Any]:
        return {
            "files": self.files,
            "found_percent": percent(self.found, self.files),
            "rows": self.rows,
            "class_percent": percent(self.right, self.rows),
            "hard_precision_percent": percent(self.rightly_hard, self.called_hard),
            "hard_recall_percent": percent(self.rightly_hard, self.hard),
            "false_bounces": self.false_bounces,
            "slowest_ms": round(self.slowest_ms, 1),
        }


def is_found(labels: list[dict[str, Any]], rows: list[ReportedRecipient]) -> bool:
    """Every labelled recipient has a row, with an address unless reports of its kind may leave it out."""
    return len(rows) >= len(labels) and all(
        row.kind is not Kind.OTHER and (row.address != "" or label["class"] in NO_ADDRESS_NEEDED)
        for label, row in zip(labels, rows, strict=False)
    )


def percent(part: int, whole: int) -> float:
    return round(100 * part / whole, 1) if whole else 100.0


def measure(directory: Path) -> Score:
    labels = json.loads((directory / "labels.json").read_text("utf-8"))
    score = Score()
    for file in sorted((directory / "emails").glob("*.eml")):
        content = file.read_bytes()
        started = time.process_time()
        rows = [row for report in read_returned_file(content) for row in report.rows]
        score.slowest_ms = max(score.slowest_ms, (time.process_time() - started) * 1000)
        score.add(file.name, labels.get(file.name, []), rows)
    return score


if __name__ == "__main__":
    print(json.dumps(measure(Path(sys.argv[1]) if len(sys.argv) > 1 else SAMPLES).summary()))

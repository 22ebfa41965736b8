"""Real returned mail, beside the repository, is understood as well as it was when the floors below were set."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SAMPLES = ROOT.parent / "shared" / "bounces"

pytestmark = pytest.mark.skipif(
    not (SAMPLES / "labels.json").is_file(),
    reason="../shared/bounces, the collection of samples, is not beside the repository",
)


@pytest.fixture(scope="module")
def summary() -> dict[str, float]:
    sys.path.insert(0, str(ROOT))
    from bench.report_accuracy import measure

    return measure(SAMPLES).summary()


@pytest.mark.parametrize(
    ("figure", "floor"),
    [("found_percent", 99.0), ("class_percent", 91.0), ("hard_precision_percent", 97.0), ("hard_recall_percent", 70.0)],
)
def test_reports_are_understood(summary: dict[str, float], figure: str, floor: float) -> None:
    assert summary[figure] >= floor


def test_nothing_else_is_called_a_bounce(summary: dict[str, float]) -> None:
    assert summary["false_bounces"] == 0


def test_no_report_takes_a_second(summary: dict[str, float]) -> None:
    assert summary["slowest_ms"] < 1000

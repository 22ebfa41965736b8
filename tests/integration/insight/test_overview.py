"""Overview and statistics: numbers that lead to the rows they count."""

from __future__ import annotations

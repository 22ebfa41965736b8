"""The doorbell: a NOTIFY that goes out with the commit. Losing one costs time, never mail: engines also look by themselves."""

from __future__ import annotations

LANES = "relay_lanes"  # something is due
ROUTES = "relay_routes"  # a route was set or removed
PATHS = "relay_paths"  # limits, suspensions or sources changed

RING = "SELECT pg_notify(%s, '')"

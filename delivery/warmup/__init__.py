"""Making a new source address known to receivers: published schedules, how they are judged, and who changes them."""

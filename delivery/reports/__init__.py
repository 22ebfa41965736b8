"""Reports: those that come back to us, and those we owe."""

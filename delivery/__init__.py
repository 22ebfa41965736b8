"""The mail itself, in the order of a message's life: accepted, queued, routed, delivered, settled, shown."""

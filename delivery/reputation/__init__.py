"""How a source address stands with each provider group, computed from what our own attempts met with."""

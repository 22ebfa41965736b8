"""Doors for clients of other services: thin translations over the same acceptance."""

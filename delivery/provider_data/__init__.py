"""Figures that providers show in their own tools, imported from files."""

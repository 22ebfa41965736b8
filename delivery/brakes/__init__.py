"""Automatic brakes: mail that harms the addresses all share is slowed, held or paused, with evidence, and let go again."""

"""Speaks SMTP to a hop: sessions, pools, TLS policy, destinations, signing."""

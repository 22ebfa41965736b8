"""6 · TOLD: events reach the URLs that tenants have given.

Triggers note events in the transaction that writes them (``delivery_webhookevent``); a caller, in a process of its own,
serves each webhook from there: in order per recipient, at least once, never in the way of mail.
"""

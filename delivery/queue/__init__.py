"""2 · QUEUED: open recipients, from acceptance to settlement.

``enqueue`` puts entries in their lanes, ``claim`` takes them out for an attempt (every SKIP LOCKED stands there),
``ownership`` says which worker drives which path and frees what a dead one held, ``control`` is for people: hold, release,
cancel, retry. All times are the database's clock.
"""

"""2 · QUEUED: open recipients, from acceptance to settlement.

``enqueue`` puts entries in their lanes, ``claim`` takes them out for an attempt, ``rates`` and ``overflow`` say how many and
by which address, ``wake`` tells engines of a change, ``control`` is for people: hold, release, cancel, retry, and ``figures``
says what waits. All times are the database's clock. Which worker drives which path: ``delivery.engine.ownership``.
"""

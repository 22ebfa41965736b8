"""The crash harness behind script/prove: what was answered 250 arrives, whatever is killed.

It stands in bench/ and not in tests/ because its result is a table of figures that takes an hour or two to measure; a short
form of it is a test like every other (tests/acceptance/test_crashes.py). It looks at relayweb from outside: a client and
receiving hosts, each a process of its own with a ledger that is flushed to disk (ledger, client, sink), a whole relayweb
between them (field), faults that are thrown at it (faults), and the comparison of both ledgers with what relayweb says
became of the mail (checking).
"""

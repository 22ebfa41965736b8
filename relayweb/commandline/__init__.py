"""The operator's command line: ``script/relay NOUN VERB …``, one file for each noun.

A verb reads its options, calls one function of accounts or delivery, and shows the result: a table for people, or one
JSON document with ``--json``. Exit codes are part of the contract: 0 done, 1 refused or not found (with a sentence),
2 usage.
"""

"""How a request reaches Django and its answer the client: bodies come in on the event loop, pages are made in threads.

A thread is taken only when the whole body is here, and given back while a client reads: a slow client costs a connection
and never a thread (docs/decisions/bodies-before-threads.md).
"""

"""A small Internet on loopback: an authoritative DNS server and MX hosts that behave as scripted.

The quick start, the tests and the benchmarks use it; the product never imports it, and it imports nothing of the
product, so that it can judge the product from outside.
"""

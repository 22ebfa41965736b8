"""Addresses that a request asks to be led to: pages of ours, and nothing else."""

from __future__ import annotations

from django.utils.http import url_has_allowed_host_and_scheme


def is_own_path(text: str) -> bool:
    """A path from the root on this host. A bare word would be taken for the name of a view, and a colon for a scheme."""
    return text.startswith("/") and url_has_allowed_host_and_scheme(text, allowed_hosts=None)

"""Bounds what a browser may send as a file, before any of it is kept."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import RequestDataTooBig
from django.core.files.uploadhandler import FileUploadHandler

# The largest file that any page takes, and the form around it.
MOST_OCTETS = 17 * 1024 * 1024


class Bounded(FileUploadHandler):
    """The first of the upload handlers; it takes nothing itself. Too large a request is answered 400."""

    def handle_raw_input(
        self, input_data: Any, META: Any, content_length: int, boundary: Any, encoding: Any = None
    ) -> None:
        if content_length > MOST_OCTETS:
            raise RequestDataTooBig

    def receive_data_chunk(self, raw_data: bytes, start: int) -> bytes:
        return raw_data

    def file_complete(self, file_size: int) -> None:
        return None

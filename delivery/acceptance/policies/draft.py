"""What the content policies look at."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from delivery.acceptance.submission import Submission
from delivery.core.content import Author, HeaderSection


@dataclass(slots=True)
class Draft:
    """A submission whose header section was read; policies add what they found out."""

    submission: Submission
    section: HeaderSection
    author: Author
    signing_domain_id: UUID | None = None
    # Whether its bounces are managed by the customer's own server.
    keeps_reverse_path: bool = False

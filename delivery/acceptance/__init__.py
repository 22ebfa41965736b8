"""1 · ACCEPTED: from an offered submission to a committed message, or to one clear refusal."""

"""SMTP in, nothing else: a session's commands become calls of delivery.acceptance, and its outcomes become replies."""

"""The HTTP API: what programs may do, in JSON. What it says is protocol text, in English like SMTP replies."""

"""Alerts for operators: rules that look, episodes that open and close, and what is told of them."""

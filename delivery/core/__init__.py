"""The language of mail. Plain Python: no Django, no input or output, and the time comes in as `now`."""

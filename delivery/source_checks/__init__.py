"""Whether a source address looks as receivers want it to: its names in the DNS, the SPF record, blocklists."""

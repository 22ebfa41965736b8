"""Whether domain blocklists have the sending domains of tenants."""

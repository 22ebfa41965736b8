"""Who is asking, and what they may do: tenants, people, memberships, credentials, quotas, audit. The bottom layer."""

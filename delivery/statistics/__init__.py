"""What a tenant's mail amounts to: counted once as it happens, read as sums of small rows.

`counting` turns events into counters; `figures` reads what pages, API and exports show.
"""

"""2→5 · The loop that carries mail out: permit → claim → converse → judge → settle, for hundreds of paths at once.

``engine`` wires the parts and keeps time, ``lanes`` says who is next, ``ownership`` which paths are ours, ``driver`` claims
what a path's permits allow, ``conversation`` makes one attempt, ``committer`` writes marks and settlements down in groups,
``recovery`` frees what dead owners held.
"""

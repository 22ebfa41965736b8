"""3' · PERMITTED: may we knock at this provider group now, and how fast?"""

"""3 · ROUTED: from a recipient's domain to the provider group it belongs to and the hops that lead there."""

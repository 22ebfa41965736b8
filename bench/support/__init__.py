"""What the benchmarks share: a network of their own, a whole relayweb, Postfix beside it, a feeder and sinks."""

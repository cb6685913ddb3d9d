"""Stand-ins that the suites share: time, chance, Envoy's side of a stream, candidates, a decider."""

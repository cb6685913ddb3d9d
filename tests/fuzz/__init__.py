"""Fuzzing what reads bytes from outside: `python -m tests.fuzz`, or `make fuzz` for all of it.

source      bytes that a generator draws its choices from, so that mutated bytes make mutated programs
target      what a target is
targets     one module for each: `run(data)` raises AssertionError when a property does not hold
wire        HTTP/2 from the peer's side, written without ours: frames, header blocks, and a reader that is strict with us
mutate      changes to an input
mutational  a fuzzer in plain Python, led by the marks that a target leaves and by lines that it had not reached
guided      the same targets under atheris, led by its coverage
campaign    many targets, each in processes of its own that are watched for hangs; findings go to `crashes/`
lines       which lines an input reaches, and how many it takes
"""

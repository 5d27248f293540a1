"""Benchmarks: ratios against the peer that users would otherwise use, on the same weights, outputs compared first.

Each is a command (`python -m tests.speed.training`), none is a timed test; what they printed stands in RESULTS.md.
"""

"""The page: a file for each of its panels, two for what is done across panels, and `build`, which composes them.

A panel lays out its components, has the handlers that concern it alone, and knows no other panel. `asking` and `browsing`
are given the panels that they bring together.
"""

"""Measurements, each in one run with what it is compared to.

`python -m tests.benchmarks [NAME ...]` runs them. A benchmark is a function that returns rows, see
`rows`. A ratio above 1 means that ours is better.
"""

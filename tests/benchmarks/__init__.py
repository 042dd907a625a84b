"""Measurements against something else, each in one run with what it is compared to: `python -m tests.benchmarks [NAME ...]`.

A benchmark is a function that returns rows. A row is the shape of `bench.json`: its name, our figure, the other's, their
unit, and a ratio above 1 where ours is better.
"""

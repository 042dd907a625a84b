"""Measurements, each in one run with what it is compared to: `python -m tests.benchmarks [NAME ...]`.

A benchmark is a function that returns rows. A row has the shape of those in `bench.json`: its name, our figure, the
other's, their unit, and a ratio above 1 where ours is better.
"""

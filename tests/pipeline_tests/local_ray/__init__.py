"""Tests of pipeline.local_ray."""

"""Synthetic corpora: their presets, signals and files."""

"""Corpora on disk: read, checked, aligned, written."""

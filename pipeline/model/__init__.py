"""The fused model and its bundle on disk."""

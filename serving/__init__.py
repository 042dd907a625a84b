"""The fused model over HTTP. Builds on pipeline."""

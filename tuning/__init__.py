"""Search over all three stages. Builds on pipeline."""

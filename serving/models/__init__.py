"""Which model is served and from where, checked before it is, and what it predicts."""

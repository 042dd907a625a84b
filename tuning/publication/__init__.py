"""A study's journal and results in its store, where others follow it and go on with it."""

"""The commands of `affectune study` and `affectune registry`."""

"""The one network that all three stages train."""

"""A whole study, from its file to the registered winner."""

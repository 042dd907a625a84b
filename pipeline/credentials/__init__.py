"""Credentials: found in texts, and masked before the texts leave the program."""

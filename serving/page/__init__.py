"""The web page, served from memory."""

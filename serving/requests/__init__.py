"""What clients send, read within bounds, and how it is refused. Knows no model."""

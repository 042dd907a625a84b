"""Pictures: of one session over time, and how notebooks show them. Knows no model."""

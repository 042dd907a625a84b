"""The tables in CSV files: parsed, cleaned and cached."""

"""One CSV file to cleaned arrays, parsed once and cached."""

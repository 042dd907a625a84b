"""The tables in a corpus's metadata folder: columns by name, lines that fit the sessions."""

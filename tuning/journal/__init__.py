"""What happened in a study: events, their file, their history."""

"""What a study searches: its tasks, its spaces, its file."""

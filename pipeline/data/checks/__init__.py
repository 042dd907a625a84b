"""What is noticed about a corpus: dropped, odd or missing data, leaks, and a summary of it."""

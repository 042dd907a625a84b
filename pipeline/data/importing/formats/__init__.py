"""One reader per format: what a file holds, as tracks of numbers over time."""

"""What the endpoint tells of itself: log lines and metrics, of all its processes."""

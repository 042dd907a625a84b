"""Training: one fit, a fit that resumes, many fits at a time."""

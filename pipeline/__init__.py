"""The three stages on a corpus. Knows no Ray, no MLflow, no HTTP."""

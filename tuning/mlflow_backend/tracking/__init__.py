"""A study recorded in MLflow: its journal as runs."""

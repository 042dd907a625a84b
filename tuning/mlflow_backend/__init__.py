"""A study's runs and models in MLflow."""

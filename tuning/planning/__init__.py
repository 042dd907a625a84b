"""What a study does next. Knows no Ray and no MLflow."""

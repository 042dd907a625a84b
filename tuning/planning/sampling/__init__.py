"""Which configurations a study tries next: Optuna's samplers, or a grid. Knows no Ray."""

"""A model against labels: scores, pictures, the model card."""

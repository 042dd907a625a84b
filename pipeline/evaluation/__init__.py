"""A model against labels: scores, corruption, pictures, the model card."""

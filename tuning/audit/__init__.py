"""What early stopping cost a study."""

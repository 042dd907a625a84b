"""An ensemble distilled: one network per task that predicts what the ensemble predicts."""

"""A trial's fit: the job that a worker gets, and what its stage predicts."""

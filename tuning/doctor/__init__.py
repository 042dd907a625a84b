"""What a Ray cluster, a tracking server and its registry answer: the rest of `affectune doctor`."""

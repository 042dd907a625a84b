"""The commands `study`, `store`, `registry` and `doctor`."""

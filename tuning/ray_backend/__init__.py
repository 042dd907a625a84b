"""A study's fits on Ray and Ray Tune."""

"""The three stages of the method, and the cross-fitting that joins them."""

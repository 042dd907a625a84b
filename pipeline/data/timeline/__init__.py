"""Times of rows to the frames of sessions: units, one timeline per session, resampling."""

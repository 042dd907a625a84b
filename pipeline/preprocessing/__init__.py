"""Raw columns to network inputs: cleaned, then normalised."""

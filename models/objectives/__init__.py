"""Training objectives, free of any network."""

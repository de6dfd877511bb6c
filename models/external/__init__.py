"""Models of others under this platform's protocols: an encoder that somebody wrote, features, or scores."""

"""CSFM: cardiac sensing foundation model."""

"""Texts of the skeletons that `einthoven new` writes."""

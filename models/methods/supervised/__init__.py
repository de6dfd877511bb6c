"""Supervised baseline: the same backbones trained from scratch on labels."""

"""Checks that must pass before anything downstream may use an output."""

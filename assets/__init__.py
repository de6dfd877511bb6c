"""What exists, and the pure functions that make it."""

"""Back ends of the resource `compute`, one module each."""

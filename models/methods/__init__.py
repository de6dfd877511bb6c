"""One folder a method: `spec.py` (light) and `method.py` (torch). Found by folder; methods do not import each other."""

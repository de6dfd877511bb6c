"""One file a dataset. Found by folder; datasets do not import each other."""

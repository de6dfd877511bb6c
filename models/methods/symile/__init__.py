"""Symile: contrastive pretraining of tuples of any number of modalities."""

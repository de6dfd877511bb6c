"""MELP: multi-scale ECG-report pretraining."""

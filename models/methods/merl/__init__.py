"""MERL: contrastive ECG-report pretraining."""

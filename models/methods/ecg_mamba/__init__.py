"""1D CNN ECG Mamba: a convolutional stem and bidirectional selective state spaces, trained on labels."""

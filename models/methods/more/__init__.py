"""MoRE: contrastive pretraining of chest X-ray, ECG and report."""

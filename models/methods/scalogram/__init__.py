"""Stacked time-frequency scalograms: every second of a 12-lead ECG as one picture."""

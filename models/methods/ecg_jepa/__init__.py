"""ECG-JEPA: hidden stretches of an ECG predicted in feature space."""

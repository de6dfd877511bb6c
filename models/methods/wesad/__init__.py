"""WESAD transformers: one network a chest signal, and what each makes of the others' signals."""

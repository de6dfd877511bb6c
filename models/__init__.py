"""Networks, objectives, training: importable without any orchestrator."""

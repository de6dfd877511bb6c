"""Metrics computed from scores and labels with numpy alone: no torch, no platform."""

"""Typed errors. Every message names the thing at fault, says what is wrong with it and what to do next."""

from __future__ import annotations


class EinthovenError(Exception):
    """Base of every error that Einthoven raises on purpose."""


class ConfigurationError(EinthovenError):
    """A name, preset, option or setting that does not exist or does not fit."""


class StoreError(EinthovenError):
    """A signal store that is missing, torn, of an unknown format version, or does not hold what was asked of it."""


class CheckpointError(EinthovenError):
    """A checkpoint or encoder bundle that is missing, cut short, altered, or made for another network."""


class TrainingError(EinthovenError):
    """Training that cannot go on: no usable records, a loss that is not finite, a label table that does not fit."""

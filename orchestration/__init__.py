"""Definitions, jobs, automation, compute back ends, command line."""

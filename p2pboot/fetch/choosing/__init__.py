"""Choosing: which manifest is taken, and which of its artifacts."""

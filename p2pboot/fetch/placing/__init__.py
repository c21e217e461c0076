"""Placing: verified artifacts under their final names, always as one whole set."""

"""State sync: finds out which snapshot trusted signers agree on, and brings it from several peers at once."""

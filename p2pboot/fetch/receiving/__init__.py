"""Receiving: pieces from many peers at once, checked, until the whole is there."""

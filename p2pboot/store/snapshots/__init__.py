"""Snapshots and their signatures where they are kept: in memory or as files, behind one interface."""

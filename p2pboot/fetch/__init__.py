"""Getting a manifest and its artifacts from peers: whom to ask, for what, and where it goes."""

"""What is true without any disk, network or clock: formats, identity, trust and verification."""

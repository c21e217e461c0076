"""The network: an interface, its implementation on py-libp2p, and one in memory for tests."""

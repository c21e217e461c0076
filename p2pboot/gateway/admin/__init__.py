"""The admin address: what the node says of itself, for people's browsers and for Prometheus."""

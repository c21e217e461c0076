"""Settings of a node: what they are, and how file, command line and defaults become one of them."""

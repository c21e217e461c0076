"""Trust documents between nodes: what is told of them, how they are asked for, and how they are heard of."""

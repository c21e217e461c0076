"""What answers strangers: one stream's life, what all streams share and may cost, and the replies themselves."""

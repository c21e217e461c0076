"""A running provider: publishes, mirrors, announces, compares, serves."""

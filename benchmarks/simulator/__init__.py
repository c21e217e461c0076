"""A swarm on a virtual clock: the schedulers that clients and holders use, over links that are shared fairly."""

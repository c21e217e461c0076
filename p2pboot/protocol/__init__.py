"""The wire protocols without any I/O: frames, messages, and the client's half of the conversation."""

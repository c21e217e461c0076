"""Asking: who is there, requests on their streams, what each has, and why not."""

"""The demo: publishes, mirrors and fetches in separate processes on one machine."""

"""What tests, benchmarks and the demo share; nothing that runs on a user's machine imports it, but for the demo."""

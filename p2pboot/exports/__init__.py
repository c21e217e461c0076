"""A release as a directory or a tar archive that is carried by hand: written, and read without believing any of it."""

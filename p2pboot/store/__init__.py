"""What a node keeps on disk: artifacts, manifests, and what it must not forget; `store` is the entrance."""

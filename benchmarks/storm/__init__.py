"""A boot storm: many machines start in the same second and want the same image, each behind a link of its own.

    python -m benchmarks.storm [ROW ...] [--quick] [--only NAME] [--json FILE] [--svg DIR]

Takes root, iproute2 and the kernel's tbf; says so where they are not there.
"""

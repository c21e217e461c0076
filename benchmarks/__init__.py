"""What p2pboot costs, measured: `python -m benchmarks` runs everything, each module runs alone too.

Nothing is asserted here. Absolute figures belong to the machine and its load; what can be compared between
machines and days are the ratios within one run. README.md says what each figure means.
"""

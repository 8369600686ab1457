"""Benchmarks: one command each, ratios against a baseline of the same run. See docs/benchmarks.md."""

"""Benchmarks: `make bench`. Every figure of the README comes from here; nothing here is a test."""

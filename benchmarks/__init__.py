"""Benchmarks: this gateway beside its peers, on one machine, with one load generator."""

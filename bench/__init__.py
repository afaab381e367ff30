"""Benchmarks: each prints one table, with a peer or the physical limit beside Lambay in the same run."""

"""Benchmarks anyone can run; results are JSON under `bench/results/` with the hardware named."""

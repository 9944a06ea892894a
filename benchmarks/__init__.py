"""Benchmarks as a contract: suites, metrics with tolerances, a committed baseline and a gate."""

"""The built-in demo: chained one-digit arithmetic, and a 0.8M-parameter model that half knows it."""

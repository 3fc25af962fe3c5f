"""Sampling groups of completions. `engine.py` says what an engine does and opens the one of a spec."""

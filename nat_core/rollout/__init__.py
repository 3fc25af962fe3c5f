"""Sampling groups of completions. One engine a file."""

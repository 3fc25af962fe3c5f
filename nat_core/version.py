"""The one place natlab's version is written."""

__version__ = "0.1.0"

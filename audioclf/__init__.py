"""audioclf: from a table of links to recordings to an F1 you can trust."""

__version__ = "0.1.0"

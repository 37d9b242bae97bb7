"""A run's identity and its folder."""

"""What audioclf brings to Hydra: Hydra takes plugins from this package alone, so these names stand here."""

from audioclf.sweep.sweeper import Sweeper


class GridSweeper(Sweeper):
    """``search=grid``: every combination."""

"""What audioclf brings to Hydra: Hydra takes plugins from this package alone, so these names stand here."""

from audioclf.sweep.launchers import Joblib, Ray, Submitit
from audioclf.sweep.search import Search
from audioclf.sweep.sweeper import Sweeper


class GridSweeper(Sweeper):
    """``search=grid``: every combination."""


class OptunaSweeper(Search):
    """``search=optuna``: what Optuna proposes."""


class JoblibLauncher(Joblib):
    """``launcher=joblib``: processes of this machine."""


class SubmititLauncher(Submitit):
    """``launcher=submitit``: jobs of a SLURM cluster."""


class RayLauncher(Ray):
    """``launcher=ray``: tasks of a Ray cluster."""

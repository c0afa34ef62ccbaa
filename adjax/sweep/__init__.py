"""Thousands of models on one data set: settings x machines as lanes of a few compiled programs.

`settings` says what is tried and which trials share a compile, `data` pools a machine's clips for all of them,
`models` fits and scores the trials of one chunk, `results` keeps a chunk's file and the table, `run` joins them up.
"""

from adjax.sweep.results import SweepResult, TrialResult
from adjax.sweep.run import Progress, run_sweep
from adjax.sweep.settings import Sweep, grid, sample

__all__ = ["Progress", "Sweep", "SweepResult", "TrialResult", "grid", "run_sweep", "sample"]

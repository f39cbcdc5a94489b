"""Tests run two at a time; each, and each process that it starts, computes on one core."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # read by torch when it is first imported

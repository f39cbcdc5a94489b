"""Policies that set the knobs: those that learn, those that need no learning, and their judging."""

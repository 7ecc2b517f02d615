"""stockade's Landlock wall; see :mod:`stockade_landlock.wall`."""

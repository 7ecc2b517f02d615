"""stockade's bubblewrap wall; see :mod:`stockade_bubblewrap.wall`."""

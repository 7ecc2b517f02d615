"""stockade's Kata wall; see :mod:`stockade_kata.wall`."""

"""stockade's gVisor wall; see :mod:`stockade_gvisor.wall`."""

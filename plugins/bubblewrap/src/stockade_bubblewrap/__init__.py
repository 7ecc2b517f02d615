"""stockade's bubblewrap wall; see :mod:`stockade_bubblewrap.wall`.

The keeper (keeper.py and what it imports) runs in a process of its own without
site-packages: those modules import the standard library alone, and so does this one.
"""

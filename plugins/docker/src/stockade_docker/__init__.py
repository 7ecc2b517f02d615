"""stockade's container walls: docker itself, and what gvisor and kata are made from."""

__version__ = "0.1.0"

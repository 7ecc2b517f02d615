"""The pages that docs/hooks/reference.py makes from the code, by kind."""

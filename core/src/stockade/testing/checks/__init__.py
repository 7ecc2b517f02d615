"""The checks of the contract, a module for each part of a letter's clauses.

Private to core: ``stockade.testing.ProviderConformance`` has them all.
"""

"""Sandboxes of E2B, and of services that speak its protocol, for stockade."""

"""Full Linux microVMs, for stockade."""

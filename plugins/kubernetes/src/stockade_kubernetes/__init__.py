"""Sessions in pods of a Kubernetes cluster, for stockade."""

"""From a string to a provider: the string, discovery, availability, preference."""

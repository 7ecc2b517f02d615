"""Many sessions: their states, their capacity, their lifetimes, and who owns them."""

"""What a run of the suite found: its data, its page, its table."""

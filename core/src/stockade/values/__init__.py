"""What is said as text, made values and back; and values that nobody changes."""

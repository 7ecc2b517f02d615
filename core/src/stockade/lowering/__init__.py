"""Shell lines and code made an argument vector, and the text that runs them inside."""

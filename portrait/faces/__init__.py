"""Photo -> faces -> Identity."""

"""The loop: the only place where generation and judging meet."""

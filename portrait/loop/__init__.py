"""The loop: the only place where making and judging meet."""

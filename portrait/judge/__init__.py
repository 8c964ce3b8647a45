"""Two pictures -> Verdict with reasons."""

"""Measure a recipe on people of your own: what its knobs do, and at which thresholds it is judged."""

"""Measure a recipe on your own people: the effects of its knobs, and the thresholds of its judges."""

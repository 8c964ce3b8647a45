"""The model families, one folder each: how their networks are loaded, fed and run."""

"""Runs -> pictures and pages for people."""

"""Commonality factoring: what several clients have travels once."""

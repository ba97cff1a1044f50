"""Counting and measuring what versions hold, as ``restic stats`` does."""

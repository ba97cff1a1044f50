"""The top tier: takes segments from an inbox, verifies every blob and writes the repository."""

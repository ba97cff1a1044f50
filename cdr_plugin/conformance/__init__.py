"""Test suites that say whether a plugin keeps its contract: import them from your tests (needs pytest)."""

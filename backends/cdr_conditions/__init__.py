"""The built-in conditions of ``when`` tables."""

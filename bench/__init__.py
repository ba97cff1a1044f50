"""Benchmarks of CDR against its peers, in the same run and on the same files: ``python -m bench.run``."""

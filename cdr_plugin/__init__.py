"""CDR: complementary data reduction, a backup framework of tiers whose top is a restic repository."""

__version__ = "0.1.0"

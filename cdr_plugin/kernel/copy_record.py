"""The record of a copy, as block matching gives it."""

import struct

COPY_RECORD = struct.Struct("<IIQ")
"""Where it goes in the blob, its length, and where it comes from in the old content."""

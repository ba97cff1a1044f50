"""A repository as a read-only file system.

``filesystem`` answers every question in Python alone; ``fuse`` passes the kernel's questions on, and is
the only module that needs a FUSE library.
"""

"""The reduction method ``zstd``: each blob as one zstd frame."""

"""Storage in a folder of this machine, or of a file system mounted on it: ``file:`` URLs."""

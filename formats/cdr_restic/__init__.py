"""restic repositories, format versions 1 and 2, on local disk.

Read ``repository`` first; ``writing`` and ``reading`` are the two ways to use an open one. Bytes
go through ``storage`` (``local``), sealed by ``crypto``; ``packs``, ``index``, ``keys``,
``config`` and ``locks`` each know one structure of the format.
"""

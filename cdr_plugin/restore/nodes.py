"""Makes symbolic links, FIFOs and devices."""

from __future__ import annotations

import os
import stat

from cdr_plugin.model.trees import Node
from cdr_plugin.restore.folders import Folder, Folders
from cdr_plugin.restore.metadata import Applied, Metadata, apply_to_link, apply_to_special
from cdr_plugin.restore.placing import Places, discard

_KINDS = {"fifo": stat.S_IFIFO, "dev": stat.S_IFBLK, "chardev": stat.S_IFCHR}


def make_node(folders: Folders, places: Places, folder: Folder, name: bytes, node: Node, metadata: Metadata) -> Applied:
    """Make a node that is neither file nor folder, with its metadata; OSError, ValueError."""
    fd = folders.fd(folder)
    temporary = places.temporary()
    try:
        if node.type == "symlink":
            os.symlink(node.linktarget_raw or node.linktarget.encode(), temporary, dir_fd=fd)
            applied = apply_to_link(fd, temporary, metadata)
        else:
            os.mknod(temporary, _KINDS[node.type] | 0o600, node.device, dir_fd=fd)
            applied = apply_to_special(fd, temporary, metadata)
    except BaseException:
        discard(fd, temporary)
        raise
    places.take(fd, folder, temporary, name)
    return applied

"""The reduction method ``delta``: blobs as differences to older blobs that the receiver holds."""

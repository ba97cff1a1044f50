"""Which versions to keep: restic's policy, grouping and tags as pure functions, and CDR's own rule."""

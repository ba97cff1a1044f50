"""An intermediate tier that reduces: it verifies what its clients deliver, keeps it for a while in a repository of
its own, and passes each blob on once. See docs/design/reducing-tier.md."""

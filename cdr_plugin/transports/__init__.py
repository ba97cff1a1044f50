"""What all transports share: object names, and wrappers that are transports themselves."""

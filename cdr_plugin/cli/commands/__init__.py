"""One module per command; see ``cdr_plugin.cli.registry``."""

"""The reduction method ``rabin``: splits streams where restic would."""

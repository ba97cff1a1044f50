"""A hierarchy that several configuration files describe together: joining, checking, drawing."""

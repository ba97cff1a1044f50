"""The client: makes versions into the spool, sends segments, reads receipts."""

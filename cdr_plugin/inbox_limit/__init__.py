"""The limit of an inbox: a note below it says what it may hold, and senders wait. See docs/design/inbox-limit.md."""

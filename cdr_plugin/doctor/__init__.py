"""What is wrong with the tiers of this machine, and what to do next. Looks; changes nothing of theirs."""

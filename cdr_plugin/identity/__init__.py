"""Who a tier is: its keys, its tickets, the documents it signs, and whom it knows."""

"""What travels between tiers: parcels of sealed segments, records inside them, and answers."""

"""Looking into versions: walking, listing, finding, comparing, and writing archives."""

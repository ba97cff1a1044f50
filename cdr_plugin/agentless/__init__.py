"""Folders of plain files that a receiving tier backs up for clients which cannot run anything."""

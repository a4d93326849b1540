"""What tests of several kinds share. Nothing here replaces our own code."""

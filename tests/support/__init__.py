"""What tests of several kinds share. Nothing here stands in for code of ours."""

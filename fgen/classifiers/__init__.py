"""The heads that a bank trains, one file each."""

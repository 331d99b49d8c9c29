"""Commands of the command line that have rooms of their own."""

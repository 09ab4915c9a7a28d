"""What the programs run: configurations by name, a file for each program."""

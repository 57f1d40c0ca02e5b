"""What a real GPU has to show: tables, checks and times of one part of the program, as one JSON file each."""

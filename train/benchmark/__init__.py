"""What `python -m train bench` is made of: loops that train on made-up crops, timed and held to each other."""

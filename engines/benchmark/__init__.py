"""What ``python -m engines bench`` is made of: contestants in processes of their own, meters, and what comes of it."""

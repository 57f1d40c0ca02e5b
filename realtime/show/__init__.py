"""What a person or a program gets: overlay, window, video, JSON lines."""

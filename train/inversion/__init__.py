"""What a network gives away of the faces it was trained on: pictures drawn back out of its weights, as a leak audit."""

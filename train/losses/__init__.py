"""What is minimised: margins on the angle to the own class centre, and the other losses of the ArcFace paper."""

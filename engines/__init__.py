"""Everything between an aligned face and its embedding; knows nothing of cameras or people."""

"""Every loss of the ArcFace paper's table, trained with one budget on one set."""
